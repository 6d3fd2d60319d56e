"""Committees of the US Congress: the members of each form a hyperedge; the task is to predict the party of a member."""

from __future__ import annotations

import json
from collections.abc import Callable

import torch

from hgraph.data import Data
from hgraph.datasets.common import (
    DEGREE_CAVEAT,
    Root,
    check_sizes,
    default_features,
    features_meta,
    random_split,
    text_of,
)
from hgraph.datasets.registry import register
from hgraph.errors import ArgumentError, DataError
from hgraph.structure import Hypergraph

__all__: list[str] = []

_PARTIES = ("Democrat", "Republican")
_CAVEATS = (
    DEGREE_CAVEAT,
    "features='noisy-label' is what benchmarks use: the one-hot party plus Gaussian noise of standard deviation "
    "`noise` (benchmarks pad to 100 columns, here there are 2). Report this choice with any accuracy.",
    "Nodes are numbered in the order of their ids in the file; node_names has the members' names.",
    "The default split is random (`seed`): 50 % of each party for training, 25 % for validation, 25 % for testing.",
)
_SETS: dict[str, tuple[str, dict[str, int], tuple[str, ...]]] = {
    "house-committees": (
        "1,290 members of the US House of Representatives and the 341 committees they sat on.",
        {"nodes": 1290, "hyperedges": 341, "incidences": 11843, "features": 1, "classes": 2},
        ("One committee has a single member; 336 of the 341 committees are distinct as sets; all are kept.",),
    ),
    "senate-committees": (
        "282 members of the US Senate and the 315 committees they sat on.",
        {"nodes": 282, "hyperedges": 315, "incidences": 5408, "features": 1, "classes": 2},
        ("301 of the 315 committees are distinct as sets; all are kept.",),
    ),
}


def _make_loader(name: str, sizes: dict[str, int]) -> Callable[..., Data]:
    def loader(root: Root = None, *, seed: int = 0, features: str = "degree", noise: float = 1.0) -> Data:
        if not noise >= 0:
            raise ArgumentError("noise", "a standard deviation >= 0", noise)
        structure, y, meta = _read(text_of("congress_committees", f"{name}.json", root), name)
        if features == "noisy-label":
            generator = torch.Generator().manual_seed(seed)
            x = torch.nn.functional.one_hot(y, len(_PARTIES)).float()
            x = x + noise * torch.randn(x.shape, generator=generator)
        else:
            x, meta = default_features(structure, features), {**meta, **features_meta(features)}
        data = Data(structure, x, y, {"default": random_split(structure, y, seed=seed)}, meta).validate()
        check_sizes(name, [data], sizes, skip=["features"] * (features != "degree"))
        return data

    loader.__doc__ = f"The data set ``{name}``; see its card for details."
    return loader


def _read(text: str, name: str) -> tuple[Hypergraph, torch.Tensor, dict[str, tuple[str, ...]]]:
    """Read a file of the XGI collection; ids are strings there, and nodes are not sorted."""
    try:
        content = json.loads(text)
        people, members = content["node-data"], content["edge-dict"]
        ids = sorted(people, key=int)
        number = {i: n for n, i in enumerate(ids)}
        y = torch.tensor([_PARTIES.index(people[i]["affiliation"]) for i in ids])
        edges = [[number[i] for i in members[e]] for e in sorted(members, key=int)]
        meta = {"node_names": tuple(people[i]["name"] for i in ids), "class_names": _PARTIES}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{name}: not a hypergraph file of the XGI collection ({error!r})") from error
    return Hypergraph.from_lists(edges, num_nodes=len(ids)), y, meta


for _name, (_description, _sizes, _set_caveats) in _SETS.items():
    register(
        _name,
        description=_description,
        kind="hypergraph",
        task="node classification",
        target_spec={"kind": "class", "num_classes": 2},
        license="none stated",
        redistribute=False,
        citation="P. Chodrow, N. Veldt, A. Benson: Generative hypergraph clustering: from blockmodels to modularity. "
        "Science Advances, 2021; C. Stewart, J. Woon: Congressional Committee Assignments.",
        caveats=(*_set_caveats, *_CAVEATS),
        sizes=_sizes,
        files=[f"congress_committees/{_name}.json"],
    )(_make_loader(_name, _sizes))
