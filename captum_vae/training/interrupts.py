"""SIGINT and SIGTERM turned into a request to stop after the current step."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Remembers a signal inside the block instead of dying of it.

    A second signal acts at once. Outside the main thread, where handlers cannot be installed,
    signals keep their usual effect.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        """Nothing received yet."""
        self.received = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {
                number: signal.signal(number, self._remember) for number in self.SIGNALS
            }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            self.__exit__(None, None, None)
            signal.raise_signal(number)
        self.received = number
