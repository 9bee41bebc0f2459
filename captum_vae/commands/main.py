"""The ``captum-vae`` command: subcommands by name, imported only when they run."""

import difflib
import importlib
import importlib.metadata
import inspect
import io
import os
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from captum_vae.lost_processes import LostProcessError, telling_lost_processes
from captum_vae.progress import detail, reporting
from captum_vae.provenance import peak_memory, running
from captum_vae.version import __version__


class Command(NamedTuple):
    """A subcommand: the function of its name in the module of its name, dashes as underscores.

    Attributes:
        doc: One line for ``captum-vae --help``, kept here so that help imports nothing.
        configs: Folder in this package of the YAML files that ``--config NAME`` finds.
        positional: Whether what is required is given by its place, not as ``--options``.
        nested: Arguments of the library that the command takes inside an option, by the option with
            NAME for the argument.
    """

    doc: str
    configs: str = ""
    positional: bool = False
    nested: Mapping[str, tuple[str, ...]] = MappingProxyType({})


_READING = ("on_error", "image_channels", "mask_values", "mask_size", "pixel_range", "cache")

COMMANDS = {
    "completion": Command("Print the script by which a shell completes these commands"),
    "demo": Command("Train a small VAE and show what each latent reads"),
    "detect": Command("Make a detector of normal images: fitted, calibrated and saved"),
    "disentangle": Command("Score how disentangled a trained VAE is, on dSprites", positional=True),
    "disentangle-seeds": Command(
        "Compare FactorVAE with and without attention disentanglement on paired seeds"
    ),
    "evaluate": Command(
        "Score a test set with anomaly maps of a VAE and report how well they localize",
        configs="configs/evaluate",
        nested={"normal.options.NAME or --test.options.NAME": _READING},
    ),
    "explain": Command("Show what each latent dimension of your own VAE reads in your images"),
    "export": Command("Write the maps of your own VAE as a file for onnxruntime or torch.export"),
    "fit": Command("Train a VAE and report which latent dimensions it uses", configs="configs/fit"),
    "info": Command("Print versions, devices and what is installed"),
    "plugins": Command("List registered scorers, data sets, models, and plugins that fail"),
    "predict": Command(
        "Say of images whether they are anomalous, and where, by a saved detector",
        positional=True,
    ),
    "reproduce": Command(
        "Run a published experiment and confirm or refute its claims: mnist, ucsd, mvtec, dsprites",
        positional=True,
    ),
}

EXTRAS = {
    "lightning": "train",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
}
"""Packages that only some commands need, and the extra of captum-vae that installs them."""

_AFTER_A_LOSS = (
    "start the same command again: fit and predict go on from what they have saved, other commands "
    "begin anew, and both end with what an undisturbed run gives"
)
"""What to do when one of several processes was lost."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``captum-vae`` with ``arguments`` (those of the process by default).

    Returns:
        The exit status: 0, 2 for an error, 130 for Ctrl-C. An error is one line; ``--verbose``
        shows where it came from, CAPTUM_VAE_TRACEBACK=1 in the environment raises it.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings(), _any_text_printed():
        warnings.showwarning = _show_warning
        try:
            try:
                with telling_lost_processes(_AFTER_A_LOSS):
                    return _dispatch(arguments)
            finally:
                # A pipe that is closed is noticed here, not when Python exits.
                sys.stdout.flush()
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:
            # Whoever read what is printed has seen enough, as head has; Python would complain again
            # on closing the stream.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except LostProcessError:
            return 2
        # What people type and feed in can fail anywhere, also in a model or data set of their own.
        except Exception as error:
            if os.environ.get("CAPTUM_VAE_TRACEBACK") == "1":
                raise
            if "--verbose" in arguments:
                traceback.print_exc()
            print(f"captum-vae: error: {_message(error, arguments[0])}", file=sys.stderr)
            return 2


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"captum-vae {__version__}")
        return 0
    with running(arguments):
        _run(arguments[0], arguments[1:])
    return 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.doc}" for name, command in sorted(COMMANDS.items())]
    return "\n".join(
        [
            "usage: captum-vae COMMAND [OPTIONS]",
            "       captum-vae COMMAND --help | --version",
            "",
            "Attention maps for every latent dimension of a variational autoencoder.",
            "",
            "commands:",
            *lines,
        ]
    )


def _run(name: str, arguments: list[str]) -> None:
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no command {name!r}; wanted one of {', '.join(sorted(COMMANDS))}{hint}")
    function = command_function(name)
    if not inspect.signature(function).parameters:
        _run_without_options(name, function, arguments)
        return
    # Commands without options start without it, and a broken installation can be looked at.
    from captum_vae.commands.options import parse

    options, shared = parse(function, arguments, **parsed_as(name))
    with reporting(**shared):
        _tell_circumstances(options)
        started = time.perf_counter()
        function(**options)
        detail(f"done after {time.perf_counter() - started:.1f} s{_peak_memory()}")


def parsed_as(name: str) -> dict[str, Any]:
    """How the options of a command are parsed; see :func:`captum_vae.commands.options.parse`."""
    command = COMMANDS[name]
    return {
        "name": name,
        "doc": command.doc,
        "positional": command.positional,
        "configs": Path(__file__).parent / command.configs if command.configs else None,
    }


def _tell_circumstances(options: Mapping[str, object]) -> None:
    """For ``--verbose``: versions, and every option as it was read."""
    versions = [f"captum_vae {__version__}", f"Python {platform.python_version()}"]
    for package in ("torch", "captum", "numpy"):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    detail(", ".join(versions))
    for name, value in options.items():
        detail(f"{name} = {value!r}")


def _peak_memory() -> str:
    """The most memory that the process took; nothing on systems that do not tell."""
    peak = peak_memory()
    return "" if peak is None else f", {peak / 2**20:.0f} MiB at most"


def command_function(name: str) -> Callable[..., None]:
    """The function behind a command, whose module is imported now."""
    function_name = name.replace("-", "_")
    module = importlib.import_module(f"captum_vae.commands.{function_name}")
    function: Callable[..., None] = getattr(module, function_name)
    return function


def _spelled_for(command: str, message: str) -> str:
    """The message with Python's ``name=value`` as the options of the command, where it has them."""
    if command not in COMMANDS:
        return message
    try:
        from captum_vae.commands.options import as_typed

        nested = {
            name: option.replace("NAME", name)
            for option, names in COMMANDS[command].nested.items()
            for name in names
        }
        return as_typed(message, command_function(command), nested)
    # What the command needs is not installed, which the message itself says.
    except ImportError:
        return message


def _run_without_options(
    name: str, function: Callable[..., None], arguments: Sequence[str]
) -> None:
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"usage: captum-vae {name}\n\n{COMMANDS[name].doc}")
    elif arguments:
        raise ValueError(f"captum-vae {name} takes no options; got {' '.join(arguments)}")
    else:
        function()


def _message(error: Exception, command: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package in EXTRAS:
            return f"{package} is not installed: pip install 'captum-vae[{EXTRAS[package]}]'"
    # Some list what there is to choose from, a candidate per line.
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    said = _spelled_for(command, "\n    ".join(filter(None, lines)))
    if isinstance(error, (ValueError, TypeError, OSError, FloatingPointError, ImportError)):
        return said or type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in said or "allocate memory" in said:
        return (
            f"the memory does not suffice ({said.partition(chr(10))[0] or type(error).__name__}); "
            "choose a smaller batch size, smaller images or smaller maps"
        )
    return (
        f"{type(error).__name__}: {said.partition(chr(10))[0]} (with --verbose, the command shows "
        "where this comes from)"
    )


@contextmanager
def _any_text_printed() -> Iterator[None]:
    """Print what the terminal cannot show, such as a file name that is no UTF-8, as escapes."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper) or stream.errors != "strict":
        yield
        return
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors="strict")


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"captum-vae: warning: {message}", file=sys.stderr)
