"""What files and users call things is printed as text, never obeyed by a terminal, and never without end."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from hgraph.cli.app import app
from hgraph.errors import ArgumentError, ArgumentTypeError, DataError, HgraphError, MissingPackageError, printable

CLEARS, TITLE, REVERSED, BELL = "\x1b[2J\x1b[H", "\x1b]0;owned\x07", "\u202eelif", "\x07\x08\r"
NAMES = [CLEARS, TITLE, REVERSED, BELL, "\x9b31m", "\x00", "\u2066x\u2069", "a" * 10_000]
ERRORS = {
    "error": HgraphError,
    "data": DataError,
    "value": lambda name: ArgumentError("x", "a name", name),
    "argument": lambda name: ArgumentError(name, "a name", "none", f"Not {name}"),
    "type": lambda name: ArgumentTypeError("x", name, 3),
    "package": lambda name: MissingPackageError(name, "", "this"),
}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("kind", ERRORS)
def test_errors_are_safe_to_print(kind, name):
    text = str(ERRORS[kind](name))
    assert text.replace("\n", "").replace("\t", "").isprintable()
    assert len(text) < 12_500  # an escape has up to six characters
    assert name[:1] != "a" or " ... " in text


@pytest.mark.parametrize("text", ["plain", "naïve 東京 😀", "two\nlines\tand a tab", ""])
def test_text_stays(text):
    assert printable(text) == text


COMMANDS = [
    ("datasets", "info", "{}"),
    ("papers", "{}"),
    ("evaluate", "{}"),
    ("predict", "{}", "{}"),
    ("serve", "{}"),
    ("train", "{}", "--device", "{}"),
    ("distill", "karate", "--device", "{}"),
    ("recommend", "{}", "--user", "{}"),
    ("datasets", "build", "--nodes", "{}", "--hyperedges", "{}", "--label", "{}", "--out", "out"),
]


@pytest.mark.parametrize("name", NAMES[:5], ids=range(5))
@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c[:2]).replace(" {}", ""))
def test_commands_print_no_control_characters(command, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [word.replace("{}", name) for word in command])
    assert result.exit_code == 2
    assert result.output.replace("\n", "").isprintable(), repr(result.output)
    assert not list(tmp_path.iterdir())
