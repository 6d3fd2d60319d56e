"""Assigns roles to the columns of a table, by name or by the user's choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hgraph.datasets.tables.table import Table, wrong

__all__ = ["FORMS", "ROLES", "Roles"]

# role -> names that a column may have, in any case
ROLES: dict[str, tuple[str, ...]] = {
    "id": ("id", "node", "node_id", "vertex", "vertex_id"),
    "node": ("node", "node_id", "vertex", "vertex_id", "member"),
    "hyperedge": ("hyperedge", "hyperedge_id", "edge", "edge_id", "group", "group_id"),
    "members": ("members", "nodes", "vertices"),
    "source": ("source", "src", "from"),
    "target": ("target", "dst", "to"),
    "head": ("head", "subject", "h"),
    "relation": ("relation", "predicate", "r"),
    "tail": ("tail", "object", "t"),
    "weight": ("weight", "w"),
    "time": ("time", "timestamp", "date"),
}


# form -> its roles, and sets of names that belong together, which decide if several columns could have a role
FORMS: dict[str, tuple[str, ...]] = {
    "wide": ("members",),
    "long": ("node", "hyperedge"),
    "triples": ("head", "relation", "tail"),
    "edges": ("source", "target"),
}
_TOGETHER: dict[str, tuple[tuple[str, ...], ...]] = {
    "wide": (),
    "long": (
        ("node", "hyperedge"),
        ("node_id", "hyperedge_id"),
        ("vertex", "hyperedge"),
        ("vertex_id", "hyperedge_id"),
        ("node", "edge"),
        ("node_id", "edge_id"),
        ("member", "group"),
    ),
    "triples": (("head", "relation", "tail"), ("subject", "predicate", "object"), ("h", "r", "t")),
    "edges": (("source", "target"), ("src", "dst"), ("from", "to")),
}


@dataclass(frozen=True)
class Roles:
    """The roles of the columns of a table: chosen by the user, otherwise by name."""

    table: Table
    given: Mapping[str, str]

    def find(self, role: str) -> str | None:
        """The column, or None.

        Raises:
            DataError: several columns could have the role; the message lists them.
        """
        found = self._candidates(role)
        if len(found) <= 1:
            return found[0] if found else None
        for form, roles in FORMS.items():
            if role in roles:
                sets = [s for s in _TOGETHER[form] if all(map(self._called, roles, s))]
                if len(sets) == 1:
                    return self._called(role, sets[0][roles.index(role)])
        hint = " or ".join(f"columns={{{role!r}: {name!r}}} (--column {role}={name})" for name in found)
        raise wrong(
            self.table.source, f"one column for the {role}", f"{' and '.join(map(repr, found))}", f"Pass {hint}"
        )

    def _candidates(self, role: str) -> list[str]:
        """The columns that could have the role, in the order of the table."""
        if role in self.given:
            return [self.given[role]] if self.given[role] in self.table.columns else []
        return [name for name in self.table.columns if name.lower() in ROLES[role]]

    def _called(self, role: str, name: str) -> str | None:
        """The candidate of that name, or the column chosen by the user."""
        found = self._candidates(role)
        found = found if role in self.given else [c for c in found if c.lower() == name]
        return found[0] if len(found) == 1 else None

    def need(self, *roles: str) -> list[str]:
        """The columns of required roles.

        Raises:
            DataError: a column is missing; the message lists the known names and how to choose another column.
        """
        found = {role: self.find(role) for role in roles}
        missing = [role for role, name in found.items() if name is None]
        if missing:
            wanted = {r: repr(self.given[r]) if r in self.given else " or ".join(map(repr, ROLES[r])) for r in missing}
            expected = " and ".join(f"a column for the {role}, called {names}" for role, names in wanted.items())
            pairs, flags = ", ".join(f"{r!r}: ..." for r in missing), " ".join(f"--column {r}=..." for r in missing)
            hint = f"Choose a column with columns={{{pairs}}} ({flags})"
            hint += "" if missing == ["id"] else "; if the first line is not a header, name the columns with --header"
            raise wrong(self.table.source, expected, f"columns {list(self.table.columns)}", hint)
        return [name for name in found.values() if name is not None]

    def _list_column(self) -> str | None:
        """The first column whose cells are lists, or texts with separators of members."""
        for name, column in self.table.columns.items():
            cells = next(iter(column), [])
            if column.listed or sum(sign in cell for cell in cells for sign in ";|") > len(cells) / 2:
                return name
        return None

    def form(self, hyper: bool) -> str:
        """``"wide"`` or ``"long"`` for hyperedges, ``"triples"`` or ``"edges"`` for edges, according to the columns.

        Raises:
            DataError: the table has columns of no form, or of both.
        """
        forms = {form: FORMS[form] for form in (("wide", "long") if hyper else ("triples", "edges"))}
        present = [form for form, roles in forms.items() if all(map(self._candidates, roles))]
        meant = [form for form, roles in forms.items() if set(roles) & set(self.given)]
        if len(present) > 1:
            present = [form for form in present if form in meant]
            if len(present) != 1:
                texts = [", ".join(map(repr, map(self.find, roles))) for roles in forms.values()]
                hint = f"Choose one with columns= (--column), such as --column {next(iter(forms.values()))[0]}=..."
                raise wrong(self.table.source, f"one of {' and '.join(forms)}", f"both: {' and '.join(texts)}", hint)
        if present:
            return present[0]
        if hyper and not meant and (name := self._list_column()) is not None:
            expected = "columns node and hyperedge, or a column members"
            hint = f"If {name!r} lists the members of each hyperedge, pass columns={{'members': {name!r}}}"
            hint += f" (--column members={name})"
            raise wrong(self.table.source, expected, f"columns {list(self.table.columns)}", hint)
        # explain the form of the roles chosen by the user, else the second form
        form = meant[0] if meant else list(forms)[1]
        self.need(*forms[form])
        raise AssertionError("one of the roles is missing")
