"""What made a result: the command, the code and the machine, as every report states them."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_vae.version import __version__

if TYPE_CHECKING:
    import torch

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
        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        if spec is not None and sys.argv[0] == spec.origin:
            module = spec.name.removesuffix(".__main__")
            return shlex.join(["python", "-m", module, *sys.argv[1:]])
        return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return shlex.join(["captum-vae", *arguments])


@dataclass(frozen=True)
class Code:
    """Which code makes the numbers.

    Attributes:
        version: The version of captum_vae.
        commit: The checked-out commit, as :func:`commit` states it.
        changes: Digest of what differs from that commit; empty where nothing does.
    """

    version: str
    commit: str | None
    changes: str

    @classmethod
    def now(cls) -> Code:
        """The code as it is at this moment."""
        found = commit()
        changes = ""
        if found and found.endswith("+changes"):
            difference = _git(_PACKAGE, "diff", "HEAD", "--", ".").stdout
            changes = hashlib.sha256(difference.encode()).hexdigest()[:12]
        return cls(__version__, found, changes)


def run_record(
    device: torch.device, *, seed: int | None = None, code: Code | None = None
) -> dict[str, Any]:
    """What every report begins with: command, version, commit, seed and machine.

    Args:
        device: Where the numbers were computed.
        seed: The seed of the run; None leaves it out, for a run that has none or several.
        code: The code as it was when the run began; None takes it as it is now.
    """
    code = code or Code.now()
    return {
        "command": command(),
        "version": code.version,
        "commit": code.commit,
        **({} if seed is None else {"seed": seed}),
        "machine": machine(device),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """The hardware and the versions that a number depends on."""
    import torch

    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def peak_memory() -> int | None:
    """The most memory in bytes that the process took so far; None on systems that do not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def commit() -> str | None:
    """The checked-out commit of this package, with ``+changes`` if files differ from it.

    None where it is not checked out: an installed package may lie in somebody else's repository.
    """
    try:
        if _git(_PACKAGE, "ls-files", "--error-unmatch", "__init__.py").returncode:
            return None
        head = _git(_PACKAGE, "rev-parse", "HEAD").stdout.strip()
        changed = _git(_PACKAGE, "diff", "--quiet", "HEAD", "--", ".").returncode
    except OSError:
        return None
    return head + ("+changes" if changed else "") if head else None


_PACKAGE = Path(__file__).parent


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
