"""The command that is running, as the report of a run states it."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_arguments: ContextVar[tuple[str, ...] | None] = ContextVar("arguments", default=None)


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[None]:
    """Within the block, ``captum-vae ARGUMENTS`` is what runs, whoever started the process."""
    token = _arguments.set(tuple(arguments))
    try:
        yield
    finally:
        _arguments.reset(token)


def command() -> str:
    """The command in a shell's words: of captum-vae where one runs, else of the process."""
    arguments = _arguments.get()
    if arguments is None:
        return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return shlex.join(["captum-vae", *arguments])
