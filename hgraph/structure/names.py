"""`Names`: text labels of ids, stored as tensors."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from hgraph.cache import cached
from hgraph.errors import ArgumentError, ArgumentTypeError, DataError
from hgraph.structure.base import Structure
from hgraph.structure.validate import check_pointers, require

__all__ = ["Names"]


@dataclass(frozen=True, eq=False)
class Names(Structure):
    """K texts in two tensors, so that names move, pickle, save and load with their structure.

    Args:
        text: [bytes] uint8, the concatenated UTF-8 texts.
        indptr: [K+1] int64, where each text begins.

    >>> names = Names.of(["Dune", "Solaris"])
    >>> len(names), names[1], names[:1], names.find("Dune")
    (2, 'Solaris', ['Dune'], 0)
    """

    text: Tensor
    indptr: Tensor

    @classmethod
    def of(cls, texts: Iterable[str]) -> Names:
        """Build from texts, in that order; texts may repeat."""
        texts = list(texts)
        for at, text in enumerate(texts):
            if not isinstance(text, str):
                raise ArgumentTypeError("names", "strings", f"{type(text).__name__} at position {at}")
        coded = [text.encode() for text in texts]
        sizes = torch.tensor([0, *map(len, coded)], dtype=torch.long)
        joined = bytearray(b"".join(coded))
        content = torch.frombuffer(joined, dtype=torch.uint8) if joined else torch.empty(0, dtype=torch.uint8)
        return cls(content, sizes.cumsum(0))

    @classmethod
    def checked(cls, name: str, texts: Names | Iterable[str] | None, count: int, what: str) -> Names | None:
        """Check that there are ``count`` names, or None; ``name`` is the argument name in errors."""
        if texts is None:
            return None
        names = texts if isinstance(texts, Names) else cls.of(texts)
        if len(names) != count:
            raise ArgumentError(name, f"{count} strings (one per {what})", len(names))
        return names

    def find(self, text: str, argument: str = "name") -> int:
        """The id of a text; ``argument`` is the argument name in errors.

        Raises:
            ArgumentError: an unknown or ambiguous name; the message suggests similar names.
        """
        numbers = cached(self, "numbers", self._numbers)
        found = numbers.get(text, [])
        if len(found) == 1:
            return found[0]
        if found:
            raise ArgumentError(argument, "a unique name", f"{text!r}, the name of {found}", "Use a number")
        near = difflib.get_close_matches(str(text), numbers, n=3) if len(numbers) <= 100_000 else []
        some = ", ".join(map(repr, itertools.islice(numbers, 3)))
        hint = (
            f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known names include {some}" if some else ""
        )
        raise ArgumentError(argument, "a known name", repr(text), hint)

    def _numbers(self) -> dict[str, list[int]]:
        numbers: dict[str, list[int]] = {}
        for number, text in enumerate(self):
            numbers.setdefault(text, []).append(number)
        return numbers

    def select(self, ids: Tensor) -> Names:
        """The names of ``ids``, in that order."""
        return Names.of(self[int(i)] for i in ids)

    def equal(self, other: Names) -> bool:
        """Whether both have the same texts in the same order."""
        if not isinstance(other, Names) or len(self) != len(other):
            return False
        return torch.equal(self.indptr.cpu(), other.indptr.cpu()) and torch.equal(self.text.cpu(), other.text.cpu())

    def __len__(self) -> int:
        """The number of names, K."""
        return self.indptr.shape[0] - 1

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        """Text ``number``, or the texts of a slice."""
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(f"name {number} is out of range for {len(self)} names")
        start, end = self.indptr[number % len(self) :][:2].tolist()
        return bytes(self.text[start:end].tolist()).decode()

    def __iter__(self) -> Iterator[str]:
        """The texts in order."""
        whole, ends = self.text.cpu().numpy().tobytes(), self.indptr.tolist()
        return (whole[a:b].decode() for a, b in itertools.pairwise(ends))

    def check_fields(self) -> None:
        """Check that pointers are valid and every text is UTF-8.

        Raises:
            DataError: the fields are inconsistent.
        """
        require(self.text.dtype == torch.uint8 and self.text.dim() == 1, "the texts are not bytes")
        require(self.indptr.dim() == 1 and self.indptr.dtype == torch.int64, "the texts' pointers are not int64")
        check_pointers("indptr", self.indptr, len(self.text))
        try:
            list(self)
        except UnicodeDecodeError as error:
            raise DataError(f"a name is not UTF-8 ({error})") from None

    def __repr__(self) -> str:
        """The number of names."""
        return f"Names({len(self)})"


torch.export.register_dataclass(Names, serialized_type_name="hgraph.structure.Names")
torch.serialization.add_safe_globals([Names])
