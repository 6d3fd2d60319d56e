"""Every number of the command line has a range, and the parser rejects numbers outside of it, with the range."""

from __future__ import annotations

import inspect
import re
import typing
from typing import get_args, get_type_hints

import pytest
import torch
import typer
from typer.testing import CliRunner

from hgraph.cli.app import app
from hgraph.cli.flags import commands_of
from hgraph.cli.numbers import Range
from hgraph.cli.tune import space_of
from hgraph.errors import ArgumentError, HgraphError
from hgraph.train import fit

TRIED = ("nan", "inf", "-inf", "-1", "1" + 20 * "0", "1e308", str(2**64), "", "x")


def numbers_of() -> dict[tuple[str, str], Range | None]:
    """(command, option) -> range, of every parameter that is a number."""
    found: dict[tuple[str, str], Range | None] = {}
    for name, command in commands_of():
        function = inspect.unwrap(command.callback)
        for parameter, hint in get_type_hints(function, include_extras=True).items():
            if typing.get_origin(hint) is not typing.Annotated:
                continue
            kind, info = get_args(hint)[:2]
            kinds = {kind, *get_args(kind)}  # of int | None, list[int]
            if {int, float} & kinds:
                option = next(o for p in command.params if p.name == parameter for o in p.opts)
                found[name, option] = getattr(info, "parser", None)
    return found


NUMBERS = numbers_of()


def test_the_walk_finds_the_numbers() -> None:
    assert {("train", "--lr"), ("train", "--seed"), ("tune", "--trials"), ("serve", "--port")} <= set(NUMBERS)
    assert ("recommend", "-k") in NUMBERS


@pytest.mark.parametrize("place", NUMBERS, ids=" ".join)
def test_numbers_outside_the_range_are_refused_with_the_range(place: tuple[str, str]) -> None:
    name, option = place
    numbers = NUMBERS[place]
    assert isinstance(numbers, Range), "made by hgraph.cli.numbers"
    assert float("-inf") < numbers.low < numbers.high < float("inf")
    for text in TRIED:
        try:
            inside = numbers.low <= numbers.kind(text) <= numbers.high
        except ValueError:
            inside = False
        if not inside:
            with pytest.raises(typer.BadParameter, match=re.escape(f"{numbers}, got {text}")):
                numbers(text)
    typed = [option, "nan"] if len(option) == 2 else [f"{option}=nan"]
    result = CliRunner().invoke(app, [*name.split(), *typed])
    assert result.exit_code == 2
    message = " ".join(result.stderr.replace("│", " ").split())
    assert f"{numbers}, got nan" in message


def test_help_shows_the_range() -> None:
    text = CliRunner().invoke(app, ["train", "--help"], terminal_width=200).stdout
    assert "--dropout <0 .. 1>" in text or "--dropout 0 .. 1" in text
    assert "--lr" in text


def test_a_range_reads_texts_and_defaults() -> None:
    assert (Range(int, 1, 5)("3"), Range(float, 0, 1)(0.5)) == (3, 0.5)
    assert str(Range(float, 0, 1e6)) == "0 .. 1e+06"


@pytest.mark.parametrize(
    "space",
    ["lr=log:nan:1", "lr=log:0.1:inf", "lr=log:0:1", "lr=range:1:0.1", "hidden=choice:-3", "hidden=choice:1.5",
     "dropout=range:0:5", "hidden=whole:1:1" + 20 * "0", "weight_decay=choice:1e308"],
)  # fmt: skip
def test_spaces_have_the_ranges_of_the_options(space: str) -> None:
    with pytest.raises(ArgumentError, match="space: expected"):
        space_of(space)
    with pytest.raises(ArgumentError, match="0 < low < high"):
        space_of("lr=log:0:1")


@pytest.mark.parametrize(
    "options",
    [{"lr": float("nan")}, {"lr": -1}, {"lr": "a"}, {"weight_decay": float("inf")}, {"epochs": 1.5}, {"epochs": -1},
     {"patience": 1.5, "validate": float}],
    ids=str,
)  # fmt: skip
def test_fit_refuses_the_same_numbers(options: dict[str, typing.Any]) -> None:
    with pytest.raises(HgraphError, match=next(iter(options))):
        fit(torch.nn.Linear(1, 1), (torch.ones(1, 1),), torch.sum, **options)
