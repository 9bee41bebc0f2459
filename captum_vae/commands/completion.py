"""``captum-vae completion``: the script by which bash completes commands, options and values."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

_SCRIPT = """\
# Completion of captum-vae in bash, made by: captum-vae completion
_captum_vae() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
    local options="" values=""
    # Bash takes "--option=value" for three words.
    if [[ $word == "=" ]]; then
        word=""
    elif [[ $before == "=" ]]; then
        before="${COMP_WORDS[COMP_CWORD-2]}"
    fi
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W COMMANDS -- "$word"))
        return
    fi
    case "${COMP_WORDS[1]}" in
OPTIONS
    esac
    case "${COMP_WORDS[1]} $before" in
VALUES
    esac
    if [[ $word == -* ]]; then
        # Dashes are as good as underscores.
        [[ ${word#--} == *-* ]] && options="${options//_/-}"
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    else
        # Where nothing fits, bash goes on with the names of files.
        COMPREPLY=($(compgen -W "$values" -- "$word"))
    fi
}
complete -o default -F _captum_vae captum-vae
"""


def completion(*, shell: Literal["bash"] = "bash") -> None:
    """Print the script by which a shell completes commands, options and values.

    Evaluate it where the shell starts, such as by this line in ~/.bashrc, which takes two seconds,
    or keep what it prints in a file, which takes none: eval "$(captum-vae completion)"

    Args:
        shell: The shell.
    """
    print(bash_script(), end="")


def bash_script() -> str:
    """The script: all commands with their options, and the values of those that have a choice."""
    from captum_vae.commands.main import COMMANDS, command_function, parsed_as
    from captum_vae.commands.options import parser_of

    options, values = [], []
    for name in sorted(COMMANDS):
        function = command_function(name)
        words = ["--help"]
        if inspect.signature(function).parameters:
            parser = parser_of(function, **parsed_as(name))
            for action in parser._actions:
                words += [word for word in action.option_strings if word.startswith("--")]
                for word in action.option_strings:
                    choices = list(_choices(getattr(action, "_typehint", None)))
                    if word == "--config" and parsed_as(name)["configs"]:
                        shipped = sorted(parsed_as(name)["configs"].glob("*.yaml"))
                        choices = [path.stem for path in shipped]
                    if choices:
                        values.append(f"{_pattern(name, word)}) values={_quoted(choices)} ;;")
            by_place = _first_by_place(function) if COMMANDS[name].positional else []
            if by_place:
                values.append(f"{shlex.quote(f'{name} {name}')}) values={_quoted(by_place)} ;;")
        options.append(f"{name}) options={_quoted(dict.fromkeys(words))} ;;")
    return (
        _SCRIPT.replace("COMMANDS", _quoted([*sorted(COMMANDS), "--help", "--version"]), 1)
        .replace("OPTIONS", "\n".join(f"        {line}" for line in options))
        .replace("VALUES", "\n".join(f"        {line}" for line in values))
    )


def _pattern(command: str, option: str) -> str:
    """The command and the option before the cursor, in either spelling, as a pattern of bash."""
    spellings = dict.fromkeys([option, f"--{option[2:].replace('_', '-')}"])
    return "|".join(shlex.quote(f"{command} {spelling}") for spelling in spellings)


def _quoted(words: Any) -> str:
    return shlex.quote(" ".join(words))


def _choices(kind: Any) -> Iterator[str]:
    """The words that a type offers: those of a Literal, true and false, also in a list of them."""
    if kind is bool:
        yield from ("true", "false")
    elif get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
    else:
        for part in get_args(kind):
            yield from _choices(part)


def _first_by_place(function: Any) -> list[str]:
    """What the first argument by place offers; nothing where it is a path."""
    first = next(iter(inspect.signature(function).parameters))
    return list(_choices(get_type_hints(function)[first]))
