"""YAML as it comes from people: read within bounds, refused where it does not mean one thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonargparse
import yaml

from captum_vae.files import reading

LARGEST_FILE = 1_000_000
"""Bytes of a configuration at most; the largest shipped one has two thousand."""

MOST_VALUES = 100_000
"""Values of a configuration at most, aliases counted as often as they are used."""

DEEPEST = 50
"""Levels of lists and mappings inside one another at most."""


class YAMLTextError(ValueError):
    """Text that is no YAML, or YAML that is refused; the message says where and why."""


def load_yaml(text: str) -> Any:
    """The value of a YAML text, as jsonargparse reads it, within bounds.

    A dozen aliases of aliases would unfold to billions of values, so what they unfold to is counted
    before any is made.

    Args:
        text: One YAML document.

    Raises:
        YAMLTextError: It is no YAML, names a key twice, or is larger than a configuration can be.
    """
    if len(text) > LARGEST_FILE:
        raise YAMLTextError(f"it has {len(text)} characters; wanted {LARGEST_FILE} at most")
    try:
        _refuse_depth(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _unfolded(node, {})
        return jsonargparse.get_loader("yaml")(text)
    except YAMLTextError:
        raise
    except yaml.YAMLError as error:
        raise YAMLTextError(" ".join(str(error).split())) from error
    # The loader's own: a key that is a list, a number of too many digits.
    except (ValueError, TypeError, OverflowError) as error:
        raise YAMLTextError(f"it holds a value that YAML cannot mean ({error})") from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The options in a YAML file.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: It is a folder, no UTF-8, no YAML, or holds something else than options.
    """
    with reading(path, "a YAML file of options, such as 'steps: 100'"):
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
        options = load_yaml(content.decode("utf-8"))
        if not isinstance(options, dict):
            raise YAMLTextError(f"it holds {_kind(options)}, no options")
        names = [name for name in options if not isinstance(name, str)]
        if names:
            raise YAMLTextError(f"it names an option {names[0]!r}, which is no word")
    return options


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


def _refuse_depth(text: str) -> None:
    """Refuse nesting that would end in Python's own limit; events are read without recursion."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise YAMLTextError(f"it nests lists and mappings more than {DEEPEST} deep")


def _unfolded(node: yaml.Node, counted: dict[int, int | None]) -> int:
    """How many values a node means, every alias counted where it is used."""
    if id(node) in counted:
        known = counted[id(node)]
        if known is None:
            raise YAMLTextError("an alias (*name) lies inside the value that it stands for")
        return known
    counted[id(node)] = None
    total = 1
    if isinstance(node, yaml.MappingNode):
        _refuse_twice(node)
        total += sum(_unfolded(value, counted) for _, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_unfolded(value, counted) for value in node.value)
    if total > MOST_VALUES:
        raise YAMLTextError(f"its aliases (*name) unfold to more than {MOST_VALUES} values")
    counted[id(node)] = total
    return total


def _refuse_twice(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise YAMLTextError(f"it names {key.value!r} twice, again in line {line}")
            seen.add(key.value)
