"""How tables are read: the options --column, --delimiter, --decimal and --missing, shared by the commands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from hgraph.errors import ArgumentError

__all__ = ["ColumnOption", "DecimalOption", "DelimiterOption", "MissingOption", "TableOptions", "pairs"]

ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="NEW=OLD: read the column OLD as NEW, which is a role (such as id) or a feature name; repeatable.",
    ),
]
DelimiterOption = Annotated[
    str | None, typer.Option("--delimiter", help="Delimiter of CSV files; default: detected from the first line.")
]
DecimalOption = Annotated[str | None, typer.Option("--decimal", help="Decimal separator of numbers, . or ,.")]
MissingOption = Annotated[
    str | None,
    typer.Option(
        "--missing",
        help="Values to read as missing in addition to NA, None, null, ..., separated by commas. With '', only empty "
        "cells are missing; with a comma at the start (',-'), only empty cells and the given values.",
    ),
]


@dataclass(frozen=True)
class TableOptions:
    """How tables are read, from the options of a command.

    Args:
        columns: new name -> old name.
        delimiter: the character between fields; None detects it.
        decimal: the decimal separator; None is the default of the command.
        missing: additional values of missing cells; None if the option is not given.
        replaces: whether ``missing`` replaces the command's default values.
    """

    columns: dict[str, str] = field(default_factory=dict)
    delimiter: str | None = None
    decimal: str | None = None
    missing: tuple[str, ...] | None = None
    replaces: bool = False

    @classmethod
    def of(
        cls, column: list[str] | None, delimiter: str | None, decimal: str | None, missing: str | None = None
    ) -> TableOptions:
        """Parse the options.

        Raises:
            ArgumentError: an option has the wrong form.
        """
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise ArgumentError("delimiter", "one character, not a quote or line end", repr(delimiter))
        if decimal not in (None, ".", ","):
            raise ArgumentError("decimal", "'.' or ','", repr(decimal))
        texts = None if missing is None else tuple(part.strip() for part in missing.split(","))
        first = bool(texts) and texts[0] == ""  # type: ignore[index]
        return cls(pairs("column", column), delimiter, decimal, texts, first)

    def missing_with(self, defaults: Iterable[str]) -> tuple[str, ...] | None:
        """The values of missing cells, from the command's default values; None if the option is not given.

        >>> TableOptions.of(None, None, None, "-").missing_with(["", "NA"])
        ('', 'NA', '-')
        >>> TableOptions.of(None, None, None, ",-").missing_with(["", "NA"])
        ('', '-')
        """
        if self.missing is None:
            return None
        return tuple(dict.fromkeys(("", *(() if self.replaces else defaults), *self.missing)))

    def given(self) -> dict[str, Any]:
        """The options that are not the default, by name, without the texts of missing cells."""
        found = {"columns": self.columns or None, "delimiter": self.delimiter, "decimal": self.decimal}
        return {name: value for name, value in found.items() if value is not None}


def pairs(name: str, texts: list[str] | None) -> dict[str, str]:
    """The texts "key=value" of an option.

    Raises:
        ArgumentError: a text that does not have this form.
    """
    found = [text.partition("=") for text in texts or []]
    for key, sign, value in found:
        if not (key and sign and value):
            raise ArgumentError(name, "key=value", repr(key + sign + value))
    return {key: value for key, _, value in found}
