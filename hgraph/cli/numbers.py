"""Numeric options: each has a finite range, shown in the help and checked by the parser."""

from __future__ import annotations

from typing import Any

import typer

__all__ = ["MANY", "SEEDS", "SETTINGS", "Range", "real", "setting", "whole"]

MANY = 10**9  # largest number of steps, trials or items; prevents overflow
SEEDS = 2**64 - 1  # largest seed of torch's generators


class Range:
    """Parser of numbers in ``low .. high``; rejects NaN."""

    def __init__(self, kind: type[int] | type[float], low: float, high: float) -> None:
        self.kind, self.low, self.high = kind, low, high
        self.__name__ = str(self)  # shown in the help as the option's value

    def __call__(self, text: str | float) -> int | float:
        """Parse a text; defaults that are numbers are checked as well."""
        try:
            value = self.kind(text)
        except (ValueError, OverflowError):
            value = None
        if value is None or not self.low <= value <= self.high:
            what = "a whole number" if self.kind is int else "a number"
            raise typer.BadParameter(f"expected {what}, {self}, got {text}")
        return value

    def __str__(self) -> str:
        """The bounds, such as "1 .. 5"."""
        return " .. ".join(str(n) if self.kind is int else f"{n:g}" for n in (self.low, self.high))


# settings of `train` that `tune` searches
SETTINGS = {
    "lr": Range(float, 0, 1000),
    "weight_decay": Range(float, 0, 1e6),
    "l2": Range(float, 0, 1e6),
    "dropout": Range(float, 0, 1),
    "hidden": Range(int, 1, 10**6),
}


def setting(name: str, help: str) -> Any:
    """An option with the range of a setting."""
    return _option((), help, SETTINGS[name])


def whole(*names: str, help: str, low: int = 1, high: int = MANY) -> Any:
    """An option that is a whole number in ``low .. high``."""
    return _option(names, help, Range(int, low, high))


def real(*names: str, help: str, low: float, high: float) -> Any:
    """An option that is a number in ``low .. high``."""
    return _option(names, help, Range(float, low, high))


def _option(names: tuple[str, ...], help: str, numbers: Range) -> Any:
    return typer.Option(*names, parser=numbers, metavar=str(numbers), help=help)
