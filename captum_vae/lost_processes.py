"""Several processes under torchrun of which one is lost: the others say so before they end.

When a process is killed, two things reach the others, in either order and within a tenth of a
second: whatever they exchange next fails, and torchrun sends them SIGTERM, of which a process dies
without a word. Inside :func:`telling_lost_processes` both end in one line on standard error and a
:class:`LostProcessError`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

_OF_A_LOST_PEER = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Connection refused",
    "Connection was likely closed",
    "remote process exited",
)
"""What gloo, NCCL and PyTorch's store say when the other end of a connection is gone."""

_SECONDS_TO_END = 10.0
"""How long a process has after SIGTERM to end in order; torchrun kills it after 30."""


class LostProcessError(SystemExit):
    """Another of the processes that work together is gone; standard error already tells so.

    It ends the process with status 2, without a traceback, and passes where any error is caught.
    """

    def __init__(self, message: str) -> None:
        """Keep the message that was told."""
        super().__init__(2)
        self.message = message

    def __str__(self) -> str:
        """The message."""
        return self.message


@contextmanager
def telling_lost_processes(advice: str) -> Iterator[None]:
    """Tell on standard error when another process of this torchrun is lost, and end.

    Without torchrun, or with one process, this does nothing. Blocks may lie in one another; the
    inner one's advice holds within it.

    Args:
        advice: What to do, for the end of the message.

    Raises:
        LostProcessError: Another process was killed or crashed. SIGTERM stays without effect from
            then on, so that nothing that unwinds is cut off.
    """
    global _watch
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "LOCAL_RANK" not in os.environ:
        yield
        return
    outermost = _watch is None
    watch = _watch = _watch or _Watch(advice)
    advice_outside, watch.advice = watch.advice, advice
    if outermost:
        watch.start()
    try:
        yield
    except Exception as error:
        if not _is_of_a_lost_peer(error):
            raise
        gone = _gone_soon()
        if gone == [] and _is_on_one_machine():
            raise
        raise watch.ending(gone or []) from error
    finally:
        watch.advice = advice_outside
        if outermost:
            watch.stop()
            _watch = None


def stopping_in_agreement() -> None:
    """Say that this process ends now of a signal that all of them received and agreed upon."""
    if _watch is not None:
        _watch.agreed = True


class _Watch:
    """Notices SIGTERM, asks whether a process is gone, and tells it once.

    A thread reads the signal from a pipe, since the main thread may wait in a collective operation
    or for the others to start, where Python runs no handler.
    """

    def __init__(self, advice: str) -> None:
        self.advice = advice
        self.agreed = False
        self._ending = False
        self._told = threading.Lock()
        self._previous: Any = signal.SIG_DFL
        self._pipe: tuple[int, int] | None = None
        self._pipe_before = -1

    def start(self) -> None:
        """Listen; outside the main thread only failed exchanges are noticed."""
        if threading.current_thread() is not threading.main_thread():
            return
        # None stands for a handler that is not Python's, which cannot be put back.
        self._previous = signal.signal(signal.SIGTERM, self._on_signal) or signal.SIG_DFL
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, end == self._pipe[0])
        self._pipe_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(self._pipe[0],), daemon=True).start()

    def stop(self) -> None:
        """Listen no more, and ignore SIGTERM if a process was lost."""
        if self._pipe is None:
            return
        signal.set_wakeup_fd(self._pipe_before)
        signal.signal(signal.SIGTERM, signal.SIG_IGN if self._told.locked() else self._previous)
        os.close(self._pipe[1])

    def ending(self, ranks: list[int]) -> LostProcessError:
        """Tell that processes are gone and return the error to raise; signals say nothing new."""
        self._ending = True
        return LostProcessError(self.tell(ranks))

    def tell(self, ranks: list[int]) -> str:
        """Tell that processes are gone, unless it was told, and return the message."""
        rank, world = os.environ["RANK"], os.environ.get("WORLD_SIZE", "?")
        who = " and ".join(f"rank {gone}" for gone in ranks)
        who = f"{who} of {world}" if who else "another process of this run"
        message = (
            f"{who} is gone: it was killed (by hand, or by the system when memory ran out), or "
            f"ended with an error of its own that is told above. Rank {rank} cannot go on without "
            f"it; {self.advice}"
        )
        if self._told.acquire(blocking=False):
            # In one piece, since the processes share the stream.
            with suppress(OSError):
                os.write(sys.stderr.fileno(), f"captum-vae: error: {message}\n".encode())
        return message

    def _listen(self, pipe: int) -> None:
        with open(pipe, "rb", buffering=0) as signals:
            while received := signals.read(1):
                if received[0] != signal.SIGTERM or self.agreed:
                    continue
                if gone := _gone():
                    self.tell(gone)
                    time.sleep(_SECONDS_TO_END)
                    os._exit(1)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._ending:
            return
        if not self.agreed:
            if gone := _gone():
                raise self.ending(gone)
            # torchrun itself is being stopped. Another process that is as quick to look must not
            # find this one gone.
            time.sleep(0.5)
        signal.signal(number, self._previous)
        signal.raise_signal(number)


_watch: _Watch | None = None
"""The watch of the outermost block."""


def _is_of_a_lost_peer(error: BaseException | None) -> bool:
    """Whether an error, or one that it was made of, tells that a connection is gone."""
    while error is not None:
        if isinstance(error, RuntimeError) and any(w in str(error) for w in _OF_A_LOST_PEER):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_on_one_machine() -> bool:
    return os.environ.get("WORLD_SIZE") == os.environ["LOCAL_WORLD_SIZE"]


def _gone_soon() -> list[int] | None:
    """What :func:`_gone` finds; a closed connection may tell it a moment before the system."""
    for _ in range(40):
        if gone := _gone():
            return gone
        time.sleep(0.05)
    return gone


def _gone() -> list[int] | None:
    """The ranks of this machine whose processes have ended; None where the system does not tell."""
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    living = {rank_of for process in _siblings() if (rank_of := _rank(process)) is not None}
    if rank not in living:
        return None
    first = rank - local
    expected = range(first, first + int(os.environ["LOCAL_WORLD_SIZE"]))
    return [number for number in expected if number not in living]


def _siblings() -> list[int]:
    """The processes that torchrun started, this one among them; what has ended is left out."""
    # What is started by way of a script has a parent with a rank.
    launcher = os.getppid()
    while launcher > 1 and _rank(launcher) is not None:
        launcher = int(_status(launcher)[1])
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{launcher}/task").iterdir():
            found += [int(process) for process in (thread / "children").read_text().split()]
    return [process for process in found if _status(process)[0] not in "ZX"]


def _rank(process: int) -> int | None:
    with suppress(OSError, ValueError):
        for entry in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
            if entry.startswith(b"RANK="):
                return int(entry[5:])
    return None


def _status(process: int) -> tuple[str, str]:
    """A process's state, one letter, and its parent; X and 0 if it is not there."""
    with suppress(OSError):
        state, parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:2]
        return state, parent
    return "X", "0"
