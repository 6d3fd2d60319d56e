"""Options that are numbers: each has a finite range, which help shows and the parser holds."""

from __future__ import annotations

from typing import Any

import typer

__all__ = ["MANY", "SEEDS", "SETTINGS", "Range", "real", "setting", "whole"]

MANY = 10**9  # of steps, trials, items: more than anybody waits for, and no number of 20 digits
SEEDS = 2**64 - 1  # as torch's generators take them


class Range:
    """Numbers in ``low .. high``, as an option's parser; NaN, which compares with nothing, is none of them."""

    def __init__(self, kind: type[int] | type[float], low: float, high: float) -> None:
        self.kind, self.low, self.high = kind, low, high
        self.__name__ = str(self)  # what help shows as the option's value

    def __call__(self, text: str | float) -> int | float:
        """The number of a text, or a default as it is."""
        try:
            value = self.kind(text)
        except (ValueError, OverflowError):
            value = None
        if value is None or not self.low <= value <= self.high:
            what = "a whole number" if self.kind is int else "a number"
            raise typer.BadParameter(f"expected {what}, {self}, got {text}")
        return value

    def __str__(self) -> str:
        """The ends, as "1 .. 5"."""
        return " .. ".join(str(n) if self.kind is int else f"{n:g}" for n in (self.low, self.high))


# of settings that `train` takes and `tune` searches
SETTINGS = {
    "lr": Range(float, 0, 1000),
    "weight_decay": Range(float, 0, 1e6),
    "l2": Range(float, 0, 1e6),
    "dropout": Range(float, 0, 1),
    "hidden": Range(int, 1, 10**6),
}


def setting(name: str, help: str) -> Any:
    """The option of a setting."""
    return _option((), help, SETTINGS[name])


def whole(*names: str, help: str, low: int = 1, high: int = MANY) -> Any:
    """An option that is a whole number in ``low .. high``."""
    return _option(names, help, Range(int, low, high))


def real(*names: str, help: str, low: float, high: float) -> Any:
    """An option that is a number in ``low .. high``."""
    return _option(names, help, Range(float, low, high))


def _option(names: tuple[str, ...], help: str, numbers: Range) -> Any:
    return typer.Option(*names, parser=numbers, metavar=str(numbers), help=help)
