"""Knowledge graphs for completion: WN18RR, FB15k-237, Kinship, UMLS, Nations, Countries, and the items of MKR."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable

import torch

from hgraph.convert.triples import kgcn_graph, rows
from hgraph.data import TripleSplit
from hgraph.datasets.common import Root, files_of, text_of
from hgraph.datasets.download import fetch_listed
from hgraph.datasets.rawfiles import read_at_most
from hgraph.datasets.registry import register
from hgraph.errors import DataError

__all__: list[str] = []

_MAX_BYTES = 64 * 2**20  # the largest file unpacks to 19 MB
_PARTS = ("train", "valid", "test")
_SPEC = {"kind": "triple"}
_CONVE = "T. Dettmers, P. Minervini, P. Stenetorp, S. Riedel: Convolutional 2D Knowledge Graph Embeddings. AAAI, 2018"


def split_of(texts: dict[str, str]) -> TripleSplit:
    """The triples of three texts, with names numbered in order of appearance over all three."""
    nodes: dict[str, int] = {}
    kinds: dict[str, int] = {}
    parts = []
    for name, text in texts.items():
        triples = [
            (nodes.setdefault(h, len(nodes)), kinds.setdefault(r, len(kinds)), nodes.setdefault(t, len(nodes)))
            for _, (h, r, t) in rows(text, "\t", 3, name)
        ]
        parts.append(torch.tensor(triples, dtype=torch.long).reshape(-1, 3))
    return TripleSplit.of_triples(
        parts, num_nodes=len(nodes), num_relations=len(kinds), node_names=list(nodes), relation_names=list(kinds)
    )


def checked(name: str, split: TripleSplit, sizes: dict[str, int]) -> list[TripleSplit]:
    """The split, after checking its sizes against the card."""
    kg = split.train
    found = {"nodes": kg.num_nodes, "relations": kg.num_relations, "train": kg.num_edges}
    found |= {"val": split.val.num_edges, "test": split.test.num_edges}
    found["triples"] = found["train"] + found["val"] + found["test"]
    if {key: found[key] for key in sizes} != sizes:
        raise DataError(f"{name}: expected the sizes {sizes} of its card, got {found}")
    return [split]


def _archived(path: str, root: Root) -> dict[str, str]:
    """The three texts of an archive, read without unpacking it to disk."""
    file = fetch_listed("kg_conve", path, root)
    texts = {}
    try:
        with tarfile.open(file, "r:gz") as archive:
            for part in _PARTS:
                stream = archive.extractfile(f"{part}.txt")
                if stream is None:
                    raise DataError(f"{file}: {part}.txt is not a file")
                content = read_at_most(stream, _MAX_BYTES + 1)
                if len(content) > _MAX_BYTES:
                    raise DataError(f"{file}: {part}.txt unpacks to more than {_MAX_BYTES} bytes")
                texts[f"{file}: {part}.txt"] = content.decode("utf-8")
    except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{file}: damaged archive of three texts ({error})") from error
    return texts


def _conve(name: str, path: str, sizes: dict[str, int]) -> Callable[..., list[TripleSplit]]:
    def loader(root: Root = None) -> list[TripleSplit]:
        return checked(name, split_of(_archived(path, root)), sizes)

    loader.__doc__ = f"The data set ``{name}``; see its card for details."
    return loader


def _texts(name: str, folder: str, base: str, sizes: dict[str, int]) -> Callable[..., list[TripleSplit]]:
    def loader(root: Root = None) -> list[TripleSplit]:
        texts = {f"{folder}/{base}{part}.txt": text_of(folder, f"{base}{part}.txt", root) for part in _PARTS}
        return checked(name, split_of(texts), sizes)

    loader.__doc__ = f"The data set ``{name}``; see its card for details."
    return loader


def _items(name: str, base: str, sizes: dict[str, int]) -> Callable[..., list[TripleSplit]]:
    def loader(root: Root = None, *, seed: int = 0, val: float = 0.1, test: float = 0.2) -> list[TripleSplit]:
        kg = kgcn_graph(text_of("mkr", f"{base}/kg.txt", root), f"mkr/{base}/kg.txt", sizes["nodes"])
        return checked(name, TripleSplit.random(kg, val_fraction=val, test_fraction=test, seed=seed), sizes)

    loader.__doc__ = f"The data set ``{name}``; see its card for details."
    return loader


def _sizes(nodes: int, relations: int, train: int, val: int, test: int) -> dict[str, int]:
    return {"nodes": nodes, "relations": relations, "train": train, "val": val, "test": test}


_UNSEEN = (
    "{} test and {} validation triples have an entity without training triples; entities are counted over all parts."
)
_INVERSE = "{:,} of the test triples have their inverse in training: they follow from it without any learning."
for _name, _path, _description, _counts, _caveats in (
    ("wn18rr", "WN18RR", "Relations between the synsets of WordNet, without inverses.",
     _sizes(40943, 11, 86835, 3034, 3134), (_UNSEEN.format(210, 210), "Entities are 8-digit offsets, as strings.",
     _INVERSE.format(1086))),
    ("fb15k-237", "FB15k-237", "Triples of Freebase, without inverses.",
     _sizes(14541, 237, 272115, 17535, 20466), (_UNSEEN.format(28, 9),)),
    ("kinship", "kinship", "Kinship terms among 104 members of a tribe.", _sizes(104, 25, 8544, 1068, 1074),
     (_INVERSE.format(389),)),
    ("umls", "umls", "Relations between concepts of medicine.", _sizes(135, 46, 5216, 652, 661),
     (_INVERSE.format(63),)),
    ("nations", "nations", "Relations between 14 countries.", _sizes(14, 55, 1592, 199, 201),
     (_INVERSE.format(173),)),
):  # fmt: skip
    register(
        _name,
        description=_description,
        kind="knowledge graph",
        task="triple prediction",
        target_spec=_SPEC,
        license="MIT for the repository; terms of the data not stated",
        redistribute=False,
        citation=_CONVE + (". K. Toutanova, D. Chen, 2015" if _name == "fb15k-237" else ""),
        caveats=("A filtered ranking needs the triples of all three parts.", *_caveats),
        sizes=_counts,
        files=[f"kg_conve/{_path}.tar.gz"],
    )(_conve(_name, f"{_path}.tar.gz", _counts))

_text_sizes = _sizes(41105, 11, 86835, 3034, 3134)
register(
    "wn18rr-text",
    description="WN18RR with the names of synsets, for readable examples.",
    kind="knowledge graph",
    task="triple prediction",
    target_spec=_SPEC,
    license="MIT for the repository; terms of the data not stated",
    redistribute=False,
    citation=_CONVE + "; text form by villmow/datasets_knowledge_embedding",
    caveats=(
        "Names do not correspond one to one to the entities of wn18rr; scores are not comparable.",
        _INVERSE.format(1086),
    ),
    sizes=_text_sizes,
    files=files_of("kg_wn18rr_text", "train", "valid", "test"),
)(_texts("wn18rr-text", "kg_wn18rr_text", "", _text_sizes))

for _number, _train in ((1, 1111), (2, 1063), (3, 985)):
    _counts = _sizes(271, 2, _train, 24, 24)
    register(
        f"countries-s{_number}",
        description=f"Which country is in which region, to be inferred from its neighbors; task S{_number}.",
        kind="knowledge graph",
        task="triple prediction",
        target_spec=_SPEC,
        license="MIT for the repository; terms of the data not stated",
        redistribute=False,
        citation="G. Bouchard, S. Singh, T. Trouillon: On Approximate Reasoning Capabilities of Low-Rank Vector "
        "Spaces. AAAI Spring Symposium, 2015. Files of Z. Sun et al.: RotatE. ICLR, 2019.",
        caveats=("The published task ranks only the five regions: africa, americas, asia, europe, oceania.",),
        sizes=_counts,
        files=files_of("kg_countries", *(f"countries_S{_number}/{part}.txt" for part in _PARTS)),
    )(_texts(f"countries-s{_number}", "kg_countries", f"countries_S{_number}/", _counts))

for _name, _nodes, _relations, _triples in (
    ("movie", 7008, 7, 20782),
    ("book", 24127, 10, 19876),
    ("music", 9366, 60, 15518),
):
    _counts = {"nodes": _nodes, "relations": _relations, "triples": _triples}
    register(
        f"mkr-{_name}",
        description=f"MKR's knowledge graph of {_name} items, with named relations; no interactions.",
        kind="knowledge graph",
        task="triple prediction",
        target_spec=_SPEC,
        license="MIT for the repository; terms of the data not stated",
        redistribute=False,
        citation="H. Wang, F. Zhang, M. Zhao, W. Li, X. Xie, M. Guo: Multi-Task Feature Learning for Knowledge Graph "
        "Enhanced Recommendation. WWW, 2019.",
        caveats=("There is no published split: triples are split at random, by default 70 : 10 : 20.",),
        sizes=_counts,
        files=[f"mkr/{_name}/kg.txt"],
    )(_items(f"mkr-{_name}", _name, _counts))
