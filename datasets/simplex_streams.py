"""Timestamped hyperedges: e-mails, contacts at school, bills in Congress."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import numpy as np
import torch

from hgraph.data import Data
from hgraph.datasets.common import Root, check_sizes, default_features, features_meta, files_of
from hgraph.datasets.download import fetch_listed, listed
from hgraph.datasets.rawfiles import read_at_most
from hgraph.datasets.registry import register
from hgraph.errors import DataError
from hgraph.structure import Hypergraph

__all__: list[str] = []

_MAX_BYTES = 64 * 2**20  # the largest file unpacks to 5 MB
_CAVEATS = (
    "Hyperedges are sorted by time, then by file order; meta['hyperedge_time'] has the times.",
    "Repeated hyperedges are separate events and are kept.",
    "There are no labels: y is -1 (missing) for every hyperedge, and there is no split.",
    "There are no features: x is one column of ones; features='none' gives no columns. Degrees would leak "
    "information about held-out hyperedges.",
)
# name: folder, description, sizes, caveats of the set
_SETS: dict[str, tuple[str, str, dict[str, int], tuple[str, ...]]] = {
    "email-enron": (
        "email-Enron",
        "10,883 e-mails among 148 employees of Enron; the sender and the recipients form a hyperedge.",
        {"nodes": 148, "hyperedges": 10883, "incidences": 26841, "features": 1},
        ("Times are milliseconds.", "Five of the 148 people are in no e-mail; they are kept."),
    ),
    "contact-primary-school": (
        "contact-primary-school",
        "106,879 face-to-face contacts among 242 people at a primary school, in steps of 20 seconds.",
        {"nodes": 242, "hyperedges": 106879, "incidences": 223998, "features": 1},
        ("Times are seconds.",),
    ),
    "contact-high-school": (
        "contact-high-school",
        "172,035 face-to-face contacts among 327 people at a high school, in steps of 20 seconds.",
        {"nodes": 327, "hyperedges": 172035, "incidences": 352718, "features": 1},
        ("Times are seconds.",),
    ),
    "congress-bills": (
        "congress-bills",
        "260,851 bills in the US Congress; the sponsor and the co-sponsors form a hyperedge.",
        {"nodes": 1718, "hyperedges": 260851, "incidences": 954262, "features": 1},
        ("Times are days.", "154,922 bills have a single sponsor; they are kept."),
    ),
}


def _make_loader(name: str, folder: str, sizes: dict[str, int]) -> Callable[..., Data]:
    def loader(root: Root = None, *, features: str = "constant") -> Data:
        size, member, time = (_integers(folder, part, root) for part in ("nverts", "simplices", "times"))
        if len(size) != len(time) or int(size.sum()) != len(member):
            raise DataError(f"{name}: {len(size)} sizes, {len(time)} times, {len(member)} members do not fit together")
        names = _names(folder, root) or {i: str(i) for i in np.unique(member).tolist()}
        ids = np.array(sorted(names))
        node = np.searchsorted(ids, member)
        order = np.argsort(time, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        structure = Hypergraph.from_coo(
            node=torch.from_numpy(node),
            hyperedge=torch.from_numpy(np.repeat(place, size)),
            num_nodes=len(ids),
            num_hyperedges=len(size),
        )
        y = torch.full((len(size),), -1)
        meta = features_meta(features) | {
            "node_names": tuple(names[i] for i in ids.tolist()),
            "hyperedge_time": torch.from_numpy(time[order]),
        }
        data = Data(structure, default_features(structure, features), y, meta=meta, target="hyperedge").validate()
        check_sizes(name, [data], sizes, skip=["features"] * (features != "constant"))
        return data

    loader.__doc__ = f"The data set ``{name}``; see its card for details."
    return loader


def _lines(folder: str, part: str, root: Root) -> bytes:
    path = fetch_listed("simplex_streams", f"{folder}/{folder}-{part}.txt.gz", root)
    try:
        with gzip.open(path) as file:
            content = read_at_most(file, _MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error})") from error
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path}: unpacks to more than {_MAX_BYTES} bytes")
    return content


def _integers(folder: str, part: str, root: Root) -> np.ndarray:
    content = _lines(folder, part, root)
    try:
        return np.array(content.split(), dtype=np.int64)
    except ValueError as error:
        raise DataError(f"{folder}-{part}: expected one integer per line ({error})") from error


def _names(folder: str, root: Root) -> dict[int, str]:
    """Names by id, if the set has them; id and name are separated by a space or a tab."""
    if f"{folder}/{folder}-node-labels.txt.gz" not in listed("simplex_streams"):
        return {}
    lines = _lines(folder, "node-labels", root).decode("utf-8").splitlines()
    pairs = [line.split(None, 1) for line in lines if line.strip()]
    return {int(i): rest[0].strip() if rest else "" for i, *rest in pairs}


for _name, (_folder, _description, _sizes, _set_caveats) in _SETS.items():
    register(
        _name,
        description=_description,
        kind="hypergraph",
        task="hyperedge prediction",
        target_spec={"kind": "hyperedge"},
        license="none stated",
        redistribute=False,
        citation="A. Benson, R. Abebe, M. Schaub, A. Jadbabaie, J. Kleinberg: Simplicial closure and higher-order link "
        "prediction. PNAS, 2018.",
        caveats=(*_set_caveats, *_CAVEATS),
        sizes=_sizes,
        files=files_of("simplex_streams", _folder + "/"),
    )(_make_loader(_name, _folder, _sizes))
