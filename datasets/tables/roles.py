"""Which column of a table plays which role, by its name or as the user says."""

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


# form -> its roles, and the names that belong together: where several columns could play a role, such a set decides
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
    """Which column of a table plays which role: as the user said, else by its name."""

    table: Table
    given: Mapping[str, str]

    def find(self, role: str) -> str | None:
        """The column, or None.

        Raises:
            DataError: several columns could play the role; lists them.
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
        raise wrong(self.table.source, f"one column for the {role}", f"{' and '.join(map(repr, found))}", f"Say {hint}")

    def _candidates(self, role: str) -> list[str]:
        """The columns that could play the role, in the order of the table."""
        if role in self.given:
            return [self.given[role]] if self.given[role] in self.table.columns else []
        return [name for name in self.table.columns if name.lower() in ROLES[role]]

    def _called(self, role: str, name: str) -> str | None:
        """The candidate of that name, or what the user said."""
        found = self._candidates(role)
        found = found if role in self.given else [c for c in found if c.lower() == name]
        return found[0] if len(found) == 1 else None

    def need(self, *roles: str) -> list[str]:
        """The columns of roles that the table must have.

        Raises:
            DataError: there is none; says which names are known and how to name another.
        """
        found = [self.find(role) for role in roles]
        for role, name in zip(roles, found, strict=True):
            if name is None:
                wanted = repr(self.given[role]) if role in self.given else " or ".join(map(repr, ROLES[role]))
                hint = f"Name it with columns={{{role!r}: ...}} (--column {role}=...)"
                hint += "" if role == "id" else "; if the first line is no header, name all with --header"
                expected = f"a column for the {role}, called {wanted}"
                raise wrong(self.table.source, expected, f"columns {list(self.table.columns)}", hint)
        return [name for name in found if name is not None]

    def form(self, hyper: bool) -> str:
        """``"wide"`` or ``"long"`` for hyperedges, else ``"triples"`` or ``"edges"``, by the columns there are.

        Raises:
            DataError: the table has none of the forms, or both.
        """
        forms = {form: FORMS[form] for form in (("wide", "long") if hyper else ("triples", "edges"))}
        there = [form for form, roles in forms.items() if all(map(self._candidates, roles))]
        meant = [form for form, roles in forms.items() if set(roles) & set(self.given)]
        if len(there) > 1:
            there = [form for form in there if form in meant]
            if len(there) != 1:
                texts = [", ".join(map(repr, map(self.find, roles))) for roles in forms.values()]
                hint = f"Say which with columns= (--column), such as --column {next(iter(forms.values()))[0]}=..."
                raise wrong(self.table.source, f"one of {' and '.join(forms)}", f"both: {' and '.join(texts)}", hint)
        if there:
            return there[0]
        # the form that the user's own roles point to, else the second, is the one to explain
        form = meant[0] if meant else list(forms)[1]
        self.need(*forms[form])
        raise AssertionError("one of the roles is missing")
