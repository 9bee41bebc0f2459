"""From the words of a command line to the arguments of the function that is the command."""

from __future__ import annotations

import collections.abc
import inspect
import json
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import jsonargparse

from captum_vae.commands.yaml_text import YAMLTextError, load_yaml, read_yaml
from captum_vae.progress import Progress

_MODE = "captum_vae_yaml"
_WRONG_VALUE = re.compile(r'Parser key "([^"]+)": (?:.*\s)?(?:Got|Given) value: ?(.*)', re.DOTALL)


def told(progress: Progress = "auto", quiet: bool = False, verbose: bool = False) -> None:
    """What every command tells on standard error while it runs, beside warnings and errors.

    Args:
        progress: Whether bars are shown; auto shows them on a terminal only. Unless it is off, each
            pass over data also leaves a line.
        quiet: Print results alone, as progress off does.
        verbose: Print details too: versions, options as read, memory, and where an error came from.
    """


def parser_of(
    function: Callable[..., Any], *, name: str, doc: str, positional: bool, configs: Path | None
) -> jsonargparse.ArgumentParser:
    """The parser of a command's options and of those that every command has; see :func:`parse`."""
    jsonargparse.set_loader(_MODE, load_yaml, (YAMLTextError,))
    parser = jsonargparse.ArgumentParser(
        prog=f"captum-vae {name}", description=doc, exit_on_error=False, parser_mode=_MODE
    )
    parser.add_argument("--config", action="config", help=_wanted_config(configs))
    parser.add_function_arguments(function, fail_untyped=True, as_positional=positional)
    parser.add_function_arguments(told)
    return parser


def parse(
    function: Callable[..., Any],
    arguments: Sequence[str],
    *,
    name: str,
    doc: str,
    positional: bool,
    configs: Path | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keyword arguments that a command line gives to the function behind a command.

    Besides what jsonargparse reads, ``--list-layers`` is ``--list_layers``, a bare flag is
    ``=true``, and several values may stand as ``1,2``, as ``1 2`` or as ``[1, 2]``.

    Args:
        function: The command; its typed parameters are the options.
        arguments: What follows the command's name.
        name: The command's name.
        doc: One line on what it does, for its help.
        positional: Whether required parameters are given by their place alone.
        configs: Folder of the YAML files that ``--config NAME`` finds; None if there are none.

    Returns:
        The arguments of the function, and those of :func:`told`.

    Raises:
        ValueError: A word that is no option, a value of another kind, an option that is missing, or
            a configuration that cannot be read.
        FileNotFoundError: There is no such configuration.
        SystemExit: The help or the configuration was asked for, and is printed.
    """
    kinds = {**dict(_kinds(function)), **dict(_kinds(told))}
    parser = parser_of(function, name=name, doc=doc, positional=positional, configs=configs)
    try:
        spelled = _spelled_out(_with_configs(arguments, configs), kinds, positional=positional)
        if positional:
            spelled = _last_as_list(spelled, function, kinds)
        parsed = parser.parse_args(spelled)
    except (jsonargparse.ArgumentError, YAMLTextError) as error:
        said = _in_words(" ".join(str(error).split()), kinds)
        raise ValueError(f"{said} (captum-vae {name} --help lists the options)") from error
    try:
        options: dict[str, Any] = parser.instantiate(parsed).as_dict()
    except (ValueError, TypeError) as error:
        raise ValueError(_reason(str(error))) from error
    options.pop("config")
    shared = {name: options.pop(name) for name in inspect.signature(told).parameters}
    return options, shared


def _reason(message: str) -> str:
    """Why an option group was refused: what it said itself, without the types that were tried."""
    tried = [line.strip().removeprefix("- ") for line in message.splitlines() if "- " in line]
    said = [line for line in tried if not line.startswith("Expected a <class")]
    return said[0] if "Union subtypes" in message and said else message


def _kinds(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Dotted names of all options with their types, those of option groups included.

    The types are also written into the signatures. Of a signature in words, jsonargparse would
    import what its module imports for type checkers alone, and so torch.
    """
    hints = get_type_hints(function)
    function.__annotations__.update(hints)
    for name, kind in hints.items():
        if name != "return":
            yield name, kind
            yield from _kinds_of_group(kind, name)


def _kinds_of_group(kind: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for part in _alternatives(kind):
        if isinstance(part, type) and is_dataclass(part):
            hints = get_type_hints(part)
            vars(part)["__init__"].__annotations__.update(hints)
            for name, inner in hints.items():
                yield f"{prefix}.{name}", inner
                yield from _kinds_of_group(inner, f"{prefix}.{name}")


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _shipped(configs: Path | None) -> dict[str, Path]:
    return {} if configs is None else {path.stem: path for path in sorted(configs.glob("*.yaml"))}


def _wanted_config(configs: Path | None) -> str:
    names = ", ".join(_shipped(configs))
    return "a YAML file of options" + (f", or the name of a shipped one: {names}" if names else "")


def _with_configs(arguments: Sequence[str], configs: Path | None) -> list[str]:
    """Check the files after ``--config``, and put the shipped one in the place of its name."""
    shipped = _shipped(configs)
    resolved = list(arguments)
    for place, argument in enumerate(arguments):
        value = argument.removeprefix("--config=")
        if value == argument and arguments[:place][-1:] != ["--config"]:
            continue
        path = Path(value)
        if not path.exists():
            name = path.name.removesuffix(".yaml")
            if name not in shipped or path.parent != Path():
                raise FileNotFoundError(
                    f"--config is {value!r}, which is not there; wanted {_wanted_config(configs)}"
                )
            path = shipped[name]
            resolved[place] = argument.replace(value, str(path))
        read_yaml(path)
    return resolved


def _spelled_out(arguments: Sequence[str], kinds: dict[str, Any], *, positional: bool) -> list[str]:
    """The arguments in the one spelling that the parser reads."""
    spelled = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.partition("=")
        option = name.removeprefix("--").replace("-", "_")
        # Python spells an argument named like a keyword, such as lambda, with a line at its end.
        option = f"{option}_" if f"{option}_" in kinds else option
        if name.startswith("--") and option in kinds:
            kind = kinds[option]
            item = _item(kind)
            if kind is bool and not equals and not (waiting and not waiting[0].startswith("--")):
                equals, value = "=", "true"
            elif item is not None:
                # A shell makes several words of good/*.png. Where nothing is given by its place
                # alone, all words behind an option are its values.
                texts = item is str and not positional and not _takes_one(kind)
                given = [value] if equals else _taken(waiting, item, texts=texts)
                joined = _as_list(given, single=_takes_one(kind))
                if texts and len(given) > 1 and not any(word.endswith(",") for word in given):
                    # Quoted as JSON: a file's name may hold commas and brackets.
                    joined = json.dumps(given)
                equals, value = ("=", joined) if given else ("", "")
            argument = f"--{option}{equals}{value}"
        spelled.append(argument)
    return spelled


def _last_as_list(
    spelled: Sequence[str], function: Callable[..., Any], kinds: dict[str, Any]
) -> list[str]:
    """The arguments with the last ones as one list, where the last given by place takes several."""
    required = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty
    ]
    if not required or _item(kinds[required[-1]]) is None:
        return list(spelled)
    rest: list[str] = []
    by_place: list[str] = []
    waiting = list(spelled)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            by_place.append(word)
            continue
        rest.append(word)
        takes_next = "=" not in word and word.removeprefix("--") in {*kinds, "config"}
        if takes_next and waiting and not waiting[0].startswith("--"):
            rest.append(waiting.pop(0))
    before = len(required) - 1
    if len(by_place) <= before:
        return list(spelled)
    # Quoted as JSON, which is YAML too: a file's name may hold commas and brackets.
    return [*by_place[:before], json.dumps(by_place[before:]), *rest]


def _item(kind: Any) -> Any:
    """The type of the items of an option that takes several; None for another option."""
    for part in _alternatives(kind):
        if get_origin(part) in (list, tuple, collections.abc.Sequence):
            return get_args(part)[0]
    return None


def _takes_one(kind: Any) -> bool:
    """Whether the option also takes a value alone, as an image size does."""
    return any(part in (int, float, str) for part in _alternatives(kind))


def _taken(waiting: list[str], item: Any, *, texts: bool) -> list[str]:
    """Take the values that follow the option: the next word, and more that can only be values."""
    taken: list[str] = []
    while waiting and (not taken or texts or _is_value(waiting[0], item)):
        if waiting[0].startswith("--") and (not taken or texts):
            break
        taken.append(waiting.pop(0))
    return taken


def _is_value(word: str, item: Any) -> bool:
    if get_origin(item) is Literal:
        return word in get_args(item)
    try:
        return item in (int, float) and isinstance(float(word), float)
    except ValueError:
        return False


def _as_list(given: Sequence[str], *, single: bool) -> str:
    # A comma between two words separates them once.
    given = [*(value.removesuffix(",") for value in given[:-1]), *given[-1:]]
    words = [word.strip() for value in given for word in value.split(",")]
    text = ",".join(given)
    if text.lstrip().startswith(("[", "{")) or (single and len(words) == 1):
        return text
    if len(words) == 1 and words[0] in ("null", ""):
        return text
    return f"[{', '.join(words)}]"


def _in_words(message: str, kinds: dict[str, Any]) -> str:
    """Jsonargparse's message with the option as it is written and Python's types in words."""
    found = _WRONG_VALUE.match(message)
    if found is None or found[1] not in kinds:
        return re.sub(r'Parser key "([^"]+)":', r"--\1:", message)
    return f"--{found[1]} is {found[2] or 'empty'}; wanted {_wanted(kinds[found[1]])}"


def _wanted(kind: Any) -> str:
    """A type as somebody at a terminal would call it."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    several = {int: "whole numbers, such as 1,2", float: "numbers, such as 0,1"}
    told = []
    for part in _alternatives(kind):
        origin = get_origin(part)
        if part in words:
            told.append(words[part])
        elif origin is Literal:
            told.append("one of " + ", ".join(map(str, get_args(part))))
        elif origin is tuple and Ellipsis not in get_args(part):
            told.append(f"{len(get_args(part))} numbers, such as [64, 64]")
        elif origin in (list, tuple, collections.abc.Sequence):
            told.append(several.get(get_args(part)[0], "a list, such as [a, b]"))
        elif part is not type(None):
            told.append("options by name, such as '{name: value}'")
    return " or ".join(told)


def as_typed(
    message: str, function: Callable[..., Any], nested: Mapping[str, str] | None = None
) -> str:
    """A refusal from below with arguments as this command spells them.

    ``steps=0`` becomes ``--trainer.steps 0``, where only one option of the command ends in that
    name, and ``images is missing`` becomes ``--images is missing``.

    Args:
        message: The refusal, in Python's words.
        function: The function behind the command.
        nested: How the command takes further arguments, by their name: inside other options.
    """
    options = {**dict(_kinds(function)), **dict(_kinds(told))}
    dotted: dict[str, list[str]] = {}
    for option in options:
        dotted.setdefault(option.rpartition(".")[2], []).append(option)
    for name, option in (nested or {}).items():
        dotted.setdefault(name, [option])

    def spell(found: re.Match[str]) -> str:
        name, value = found[1], found[2]
        if len(dotted.get(name, [])) != 1:
            return found[0]
        option = f"--{dotted[name][0]}"
        if value == "lambda":
            return f"{option} NAME with NAME = lambda"
        return f"{option} {value}" if value else option

    subject = re.match(r"([a-z_.]+) (?:is|has|does|do|wants)\b", message)
    if subject is not None and subject[1] in options:
        message = f"--{message}"
    return re.sub(r"(?<![\w.-])([a-z_]+)=(lambda|[^\s,;.)]|)", spell, message)
