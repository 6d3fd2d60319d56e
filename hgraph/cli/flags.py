"""Which command has which option: messages name the command of an option that the running one lacks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["commands_of", "located", "options_of", "set_program"]

_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_COMMAND = re.compile(r"`hgraph [^`]*`|\bhgraph [a-z]+[^;.]*")  # a whole command says itself whose options it has
_program: list[Any] = []  # the typer application; `set_program` puts it here, as the commands cannot import it
_FIRST = "datasets build"  # most hints of the library are about reading tables


def set_program(program: Any) -> None:
    """Say which application has the commands."""
    _program[:] = [program]


def options_of(command: Any) -> set[str]:
    """The options of a command, as they are typed."""
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def commands_of(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(name, command) of every command below a group, by default of the whole program, such as "datasets build"."""
    if group is None:
        from typer.main import get_command

        group = get_command(_program[0])
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def located(message: str, running: Callable[..., Any]) -> str:
    """The message, with the command of each option in it that the running command, a function, does not have."""
    asked = dict.fromkeys(_FLAG.findall(_COMMAND.sub("", message)))
    if not asked or not _program:
        return message
    options = {name: (options_of(command), inspect.unwrap(command.callback)) for name, command in commands_of()}
    own = {flag for flags, function in options.values() if function is inspect.unwrap(running) for flag in flags}
    found: dict[str, list[str]] = {}
    for flag in asked:
        owners = [name for name, (flags, _) in options.items() if flag in flags]
        if owners and flag not in own:
            found.setdefault(_FIRST if _FIRST in owners else owners[0], []).append(flag)
    texts = [f"{' and '.join(flags)}: of `hgraph {name}`" for name, flags in found.items()]
    return message + "".join(f". {text}" for text in texts)
