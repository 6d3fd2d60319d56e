"""Adds to a message which command has an option, if the running command does not have it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["commands_of", "located", "options_of", "set_program"]

_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
# a complete command, in which it is clear whose options they are
_COMMAND = re.compile(r"`hgraph [^`]*`|\bhgraph [a-z]+[^;.]*")
_program: list[Any] = []  # the typer application; `set_program` puts it here, as the commands cannot import it
_FIRST = "datasets build"  # most hints of the library are about reading tables


def set_program(program: Any) -> None:
    """Set the application whose commands are searched."""
    _program[:] = [program]


def options_of(command: Any) -> set[str]:
    """The options of a command, such as "--seed"."""
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
    """Append the command of every option in the message that the running command (a function) does not have."""
    flags_in_message = dict.fromkeys(_FLAG.findall(_COMMAND.sub("", message)))
    if not flags_in_message or not _program:
        return message
    options = {name: (options_of(command), inspect.unwrap(command.callback)) for name, command in commands_of()}
    available = {flag for flags, function in options.values() if function is inspect.unwrap(running) for flag in flags}
    found: dict[str, list[str]] = {}
    for flag in flags_in_message:
        owners = [name for name, (flags, _) in options.items() if flag in flags]
        if owners and flag not in available:
            found.setdefault(_FIRST if _FIRST in owners else owners[0], []).append(flag)
    texts = [f"{' and '.join(flags)}: see `hgraph {name} --help`" for name, flags in found.items()]
    return message + "".join(f". {text}" for text in texts)
