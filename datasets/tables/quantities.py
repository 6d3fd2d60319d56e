"""Parses numbers with units and separators: 12%, $12, 3.5 kg, 1 234, and 1,5 with a decimal comma."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import numpy as np

__all__ = ["DATES", "UNITS", "as_numbers", "mark_of", "readings", "with_text"]

_SPACE, _MONEY = " '\u00a0\u202f", "$\u20ac\u00a3\u00a5\u20b9"
# sign or unit before or after the number; the mark of a column is the one that all of its cells have
_CELL = re.compile(
    rf"([-+\u2212]?)\s*([{_MONEY}]|USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD)?\s*([-+]?)"
    rf"(\d[\d.,{_SPACE}]*?|\.\d+)([eE][-+]?\d+)?(\s*)(%|\u2030|\u00b0[CF]?|[{_MONEY}]|[^\W\d_][^\d\s,.;|]*)?"
)
_POINT = re.compile(rf"(\d{{1,3}}(,\d{{3}})+|\d{{1,3}}([{_SPACE}]\d{{3}})+|\d+)(\.\d*)?|\.\d+")
_COMMA = re.compile(rf"(\d{{1,3}}(\.\d{{3}})+|\d{{1,3}}([{_SPACE}]\d{{3}})+|\d+)(,\d*)?")
_WITH_TEXT = re.compile(r"([-+]?\d[\d.,]*)(\s+[^\d\s]\D*|[^\W\d]+\.)")
DATES = re.compile(r"\d{1,2}([./-])\d{1,2}\1(\d{4}|\d{2})")
_UNITS = """% \u2030 \u00b0 \u00b0C \u00b0F $ \u20ac \u00a3 \u00a5 \u20b9 USD EUR GBP CHF JPY CNY INR CAD AUD
mg g kg t lb lbs oz mm cm m km in ft yd mi ml cl l L s ms min h hr hrs hours days years Hz kHz MHz GHz W kW kWh V kB
KB MB GB TB"""
UNITS = frozenset(_UNITS.split())


def mark_of(cells: Iterable[str]) -> set[str] | None:
    """The signs or units of the numbers in cells (``%``, ``kg`` or nothing); None if a cell is not a number with one.

    >>> mark_of(["12%", "7 %"]), mark_of(["3 kg", "4 lb"]) == {"kg", "lb"}, mark_of(["ab"])
    ({'%'}, True, None)
    """
    found = set()
    for cell in cells:
        match = _CELL.fullmatch(cell)
        if match is None or (match[2] and match[7]):
            return None
        if match[7] and not match[6] and match[7] not in UNITS:  # 7B is a code, "7 bags" is a quantity
            return None
        found.add(match[2] or match[7] or "")
    return found


def as_numbers(cells: Collection[str], mark: str, decimal: str | None) -> np.ndarray | None:
    """Cells with that mark as float64 [len], else None; commas are accepted only if ``decimal`` is set.

    >>> as_numbers(["$1,200.50", "$7"], "$", "."), as_numbers(["1,5"], "", ","), as_numbers(["1,5"], "", None)
    (array([1200.5,    7. ]), array([1.5]), None)
    """
    out = np.empty(len(cells))
    for i, cell in enumerate(cells):
        match = _CELL.fullmatch(cell)
        if match is None or (match[2] or match[7] or "") != mark:
            return None
        value = _number(match[4].strip(), decimal)
        if value is None:
            return None
        sign = -1 if "-" in (match[1] + match[3]) or "\u2212" in match[1] else 1
        out[i] = sign * value * 10.0 ** int((match[5] or "e0")[1:])
    return out


def with_text(cells: Iterable[str]) -> bool:
    """Whether cells are numbers followed by one to three different texts that are no unit, such as "12 p.".

    Codes such as 7B, in which a letter follows the number directly, are none of these.

    >>> with_text(["12 p.", "7 pp."]), with_text(["7B", "8B"]), with_text(["12 p.", "few"])
    (True, False, False)
    """
    numbers, texts = set(), set()
    for cell in cells:
        match = _WITH_TEXT.fullmatch(cell)
        if match is None:
            return False
        numbers.add(match[1])
        texts.add(match[2].strip())
        if len(texts) > 3:
            return False
    return len(numbers) > 1


def _number(text: str, decimal: str | None) -> float | None:
    if decimal is None and "," in text:
        return None
    if not (_COMMA if decimal == "," else _POINT).fullmatch(text):
        return None
    plain = re.sub(r"[ '\u00a0\u202f]", "", text)
    return float(plain.replace(".", "").replace(",", ".") if decimal == "," else plain.replace(",", ""))


def readings(cells: Iterable[str]) -> dict[str, float]:
    """The values of the first number with a comma, by decimal sign; empty if no cell has a comma.

    >>> readings(["12", "1,234"]), readings(["1,5"])
    ({',': 1.234, '.': 1234.0}, {',': 1.5})
    """
    for cell in cells:
        match = _CELL.fullmatch(cell)
        if match is not None and "," in match[4]:
            both = {sign: _number(match[4].strip(), sign) for sign in (",", ".")}
            return {sign: value for sign, value in both.items() if value is not None}
    return {}
