"""The ``captum-vae`` command: subcommands by name, imported only when they run."""

import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from captum_vae.provenance import running
from captum_vae.version import __version__


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        function: ``module:name`` of the typed function whose parameters are the options.
        doc: one line for ``captum-vae --help``, kept here so that help imports nothing.
        configs: folder in this package of the YAML files that ``--config NAME`` finds.
        required: whether required parameters are ``--options`` or ``positional``.
    """

    function: str
    doc: str
    configs: str = ""
    required: Literal["options", "positional"] = "options"


COMMANDS = {
    "demo": Command(
        "captum_vae.experiments.demo:demo", "Train a small VAE and show what each latent reads"
    ),
    "disentangle": Command(
        "captum_vae.commands.disentangle:disentangle",
        "Score how disentangled a trained VAE is, on dSprites",
        required="positional",
    ),
    "disentangle-seeds": Command(
        "captum_vae.experiments.disentanglement_seeds:disentangle_seeds",
        "Compare FactorVAE with and without attention disentanglement on paired seeds",
    ),
    "explain": Command(
        "captum_vae.commands.explain:explain",
        "Show what each latent dimension of your own VAE reads in your images",
    ),
    "fit": Command(
        "captum_vae.commands.fit:fit",
        "Train a VAE and report which latent dimensions it uses",
        configs="configs/fit",
    ),
    "evaluate": Command(
        "captum_vae.commands.evaluate:evaluate",
        "Score a test set with anomaly maps of a VAE and report how well they localize",
        configs="configs/evaluate",
    ),
    "info": Command(
        "captum_vae.commands.info:info", "Print versions, devices and what is installed"
    ),
    "plugins": Command(
        "captum_vae.plugins:list_plugins",
        "List registered scorers, data sets, models, and plugins that fail",
    ),
    "reproduce": Command(
        "captum_vae.experiments.reproduce:reproduce",
        "Run a published experiment and confirm or refute its claims: mnist, ucsd, mvtec, dsprites",
        required="positional",
    ),
}

EXTRAS = {
    "jinja2": "report",
    "jsonargparse": "train",
    "lightning": "train",
    "matplotlib": "report",
}
"""Optional packages and the extra of captum-vae that installs them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``captum-vae`` with ``arguments`` (those of the process by default).

    Returns:
        The exit status: 0, 2 for an error of use or of the data, 130 for Ctrl-C. An error of
        use is one line; CAPTUM_VAE_TRACEBACK=1 in the environment shows where it came from.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"captum-vae {__version__}")
        return 0
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            with running(arguments):
                _run(arguments[0], arguments[1:])
        except KeyboardInterrupt:
            return 130
        # What this package raises for wrong input, full disks and diverged training.
        except (ValueError, OSError, FloatingPointError, ImportError) as error:
            if os.environ.get("CAPTUM_VAE_TRACEBACK") == "1":
                raise
            print(f"captum-vae: error: {_message(error)}", file=sys.stderr)
            return 2
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
        raise ValueError(f"no command {name!r}; wanted one of {', '.join(sorted(COMMANDS))}")
    command = COMMANDS[name]
    module, _, attribute = command.function.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    if not inspect.signature(function).parameters:
        _run_without_options(name, function, arguments)
        return
    # An extra, which commands without options do without.
    import jsonargparse

    parser = jsonargparse.ArgumentParser(
        prog=f"captum-vae {name}", description=command.doc, exit_on_error=False
    )
    parser.add_argument("--config", action="config", help=_wanted_config(command))
    parser.add_function_arguments(
        function, fail_untyped=True, as_positional=command.required == "positional"
    )
    try:
        parsed = parser.parse_args(
            _spelled_out(_with_shipped_configs(arguments, command), function)
        )
    except jsonargparse.ArgumentError as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{said} (captum-vae {name} --help lists the options)") from error
    options = parser.instantiate(parsed).as_dict()
    options.pop("config")
    function(**options)


def _run_without_options(name: str, function: Callable[..., Any], arguments: Sequence[str]) -> None:
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"usage: captum-vae {name}\n\n{COMMANDS[name].doc}")
    elif arguments:
        raise ValueError(f"captum-vae {name} takes no options; got {' '.join(arguments)}")
    else:
        function()


def _shipped_configs(command: Command) -> dict[str, Path]:
    folder = Path(__file__).parent / command.configs
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if command.configs else {}


def _wanted_config(command: Command) -> str:
    names = ", ".join(_shipped_configs(command))
    return "a YAML file of options" + (f", or the name of a shipped one: {names}" if names else "")


def _with_shipped_configs(arguments: list[str], command: Command) -> list[str]:
    """Replace ``--config NAME`` by the shipped file of that name, unless it is a file itself."""
    shipped = _shipped_configs(command)
    resolved = list(arguments)
    for place, argument in enumerate(arguments):
        value = argument.removeprefix("--config=")
        if value == argument and arguments[place - 1 : place] != ["--config"]:
            continue
        if Path(value).is_file():
            continue
        name = Path(value).name.removesuffix(".yaml")
        if name not in shipped or Path(value).parent != Path():
            raise FileNotFoundError(f"--config is {value!r}; wanted {_wanted_config(command)}")
        resolved[place] = argument.replace(value, str(shipped[name]))
    return resolved


def _spelled_out(arguments: list[str], function: Callable[..., Any]) -> list[str]:
    """Let ``--list-layers`` be ``--list_layers``, and a bare flag ``--flag`` be ``--flag=true``."""
    parameters = inspect.signature(function).parameters
    spelled = []
    for argument, following in pairwise([*arguments, "--"]):
        name, equals, value = argument.partition("=")
        plain = name.removeprefix("--").replace("-", "_")
        if name.startswith("--") and plain in parameters:
            is_flag = isinstance(parameters[plain].default, bool)
            if is_flag and not equals and following.startswith("--"):
                equals, value = "=", "true"
            argument = f"--{plain}{equals}{value}"
        spelled.append(argument)
    return spelled


def _message(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package in EXTRAS:
            return f"{package} is not installed: pip install 'captum-vae[{EXTRAS[package]}]'"
    # Some list what there is to choose from, a candidate per line.
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    return "\n    ".join(filter(None, lines))


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"captum-vae: warning: {message}", file=sys.stderr)
