"""Interactions with a knowledge graph of the items: the data sets of KGAT, KGCN, RippleNet, CKAN and RecBole."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import torch
from torch import Tensor

from hgraph.convert.triples import kgcn_graph, numbered_triples, recbole_columns, rows
from hgraph.data import Interactions
from hgraph.datasets.common import Root, text_of
from hgraph.datasets.download import fetch_listed
from hgraph.datasets.rawfiles import read_at_most
from hgraph.datasets.registry import register
from hgraph.errors import DataError
from hgraph.structure import KnowledgeGraph

__all__: list[str] = []

_MAX_BYTES = 64 * 2**20
_SPEC = {"kind": "item"}
_RANDOM = "Pairs are split at random with `seed`, by default 60 : 20 : 20."


def _checked(name: str, data: Interactions, sizes: dict[str, int]) -> list[Interactions]:
    """The interactions, after checking their sizes against the card."""
    found = {"users": data.num_users, "items": data.num_items, "nodes": data.kg.num_nodes}
    found |= {"relations": data.kg.num_relations, "triples": data.kg.num_edges}
    found["interactions"] = sum(part.num_edges for part in (data.train, data.val, data.test))
    if found != sizes:
        raise DataError(f"{name}: expected the sizes {sizes} of its card, got {found}")
    return [data]


def _sizes(users: int, items: int, interactions: int, nodes: int, relations: int, triples: int) -> dict[str, int]:
    sizes = {"users": users, "items": items, "interactions": interactions, "nodes": nodes}
    return sizes | {"relations": relations, "triples": triples}


def _links(text: str, source: str) -> dict[str, int]:
    """A map of original id to entity, from ``item_index2entity_id.txt``, in file order."""
    return {item: int(entity) for _, (item, entity) in rows(text, "\t", 2, source)}


# ---------------------------------------------------------------------- KGCN: Last.FM


_MUSIC = _sizes(1872, 3846, 21173, 9366, 60, 15518)
_HETREC = "I. Cantador, P. Brusilovsky, T. Kuflik: HetRec, 2011"


@register(
    "kgcn-music",
    description="Artists that 1,872 users of Last.FM listened to, with a knowledge graph; the files of KGCN.",
    kind="interactions",
    task="recommendation",
    target_spec=_SPEC,
    license="HetRec 2011: non-commercial use",
    redistribute=False,
    citation=f"H. Wang, M. Zhao, X. Xie, W. Li, M. Guo: Knowledge Graph Convolutional Networks for Recommender "
    f"Systems. WWW, 2019. {_HETREC}.",
    caveats=(
        "Every listed pair is positive; artists without an entity are dropped.",
        "The 42,346 interactions in the publications are these pairs and as many sampled negatives.",
        _RANDOM,
    ),
    sizes=_MUSIC,
    files=["kgcn_music/user_artists.dat", "kgcn_music/item_index2entity_id.txt", "kgcn_music/kg.txt"],
)
def kgcn_music(root: Root = None, *, seed: int = 0, val: float = 0.2, test: float = 0.2) -> list[Interactions]:
    """The data set ``kgcn-music``; see its card for details."""
    texts = {n: text_of("kgcn_music", n, root) for n in ("user_artists.dat", "item_index2entity_id.txt", "kg.txt")}
    linked = _links(texts["item_index2entity_id.txt"], "item_index2entity_id.txt")
    users: dict[str, int] = {}
    pairs = [
        (users.setdefault(user, len(users)), linked[artist])
        for _, (user, artist, _) in rows(texts["user_artists.dat"].partition("\n")[2], "\t", 3, "user_artists.dat")
        if artist in linked
    ]
    kg = kgcn_graph(texts["kg.txt"], "kg.txt", _MUSIC["nodes"])
    user, item = torch.tensor(pairs).T
    counts = len(users), len(linked)
    data = Interactions.random(
        user, item, kg, num_users=counts[0], num_items=counts[1], val_fraction=val, test_fraction=test, seed=seed
    )
    return _checked("kgcn-music", data, _MUSIC)


# ---------------------------------------------------------------------- numbers of RippleNet, KGCN, CKAN


def _final(name: str, base: str, sizes: dict[str, int]) -> Callable[..., list[Interactions]]:
    def loader(root: Root = None, *, seed: int = 0, val: float = 0.2, test: float = 0.2) -> list[Interactions]:
        rated = numbered_triples(text_of("kgrec_final", f"{base}/ratings_final.txt", root), "\t", f"{base}/ratings")
        kg = kgcn_graph(text_of("kgrec_final", f"{base}/kg_final.txt", root), f"{base}/kg_final.txt", sizes["nodes"])
        positive = rated.triples[rated.triples[:, 2] == 1]
        data = Interactions.random(
            positive[:, 0],
            positive[:, 1],
            kg,
            num_users=sizes["users"],
            num_items=sizes["items"],
            val_fraction=val,
            test_fraction=test,
            seed=seed,
        )
        return _checked(name, data, sizes)

    loader.__doc__ = f"The data set ``{name}``; see its card for details."
    return loader


for _name, _base, _words, _counts in (
    ("kgrec-book", "book", "Books that 17,860 users of Book-Crossing liked",
     _sizes(17860, 14967, 69873, 77903, 25, 151500)),
    ("kgrec-music", "music", "Artists that 1,872 users of Last.FM listened to", _MUSIC),
):  # fmt: skip
    register(
        _name,
        description=f"{_words}, with a knowledge graph; the numbered files of RippleNet and CKAN.",
        kind="interactions",
        task="recommendation",
        target_spec=_SPEC,
        license="none stated",
        redistribute=False,
        citation="H. Wang et al.: RippleNet. CIKM, 2018. Z. Wang et al.: CKAN. SIGIR, 2020. C.-N. Ziegler et al.: "
        "Improving Recommendation Lists through Topic Diversification. WWW, 2005.",
        caveats=("The files also contain as many sampled negatives, which are omitted here.", _RANDOM),
        sizes=_counts,
        files=[f"kgrec_final/{_base}/{file}_final.txt" for file in ("ratings", "kg")],
    )(_final(_name, _base, _counts))


# ---------------------------------------------------------------------- RecBole: MovieLens 100K


_MOVIELENS = _sizes(943, 1682, 100000, 34628 + 84, 24, 91631)


@register(
    "movielens-100k-kg",
    description="100,000 ratings of 1,682 films by 943 users, with a subset of Freebase; RecBole's atomic files.",
    kind="interactions",
    task="recommendation",
    target_spec=_SPEC,
    license="MovieLens: research, no redistribution without permission",
    redistribute=False,
    citation="F. Harper, J. Konstan: The MovieLens Datasets, 2015. W. X. Zhao et al.: KB4Rec, 2019; RecBole, 2021.",
    caveats=(
        "Every rating counts as an interaction, as in RecBole, unless `least` sets a minimum rating.",
        "84 films have no entity: they are nodes without triples, in addition to the 34,628 entities of the graph.",
        "The files have inverse relations for some relations only.",
        "Pairs are split at random with `seed`, by default 80 : 10 : 10.",
    ),
    sizes=_MOVIELENS,
    files=[f"movielens_100k_kg/movie.{part}" for part in ("inter", "item", "kg", "link")],
)
def movielens_100k_kg(
    root: Root = None, *, seed: int = 0, val: float = 0.1, test: float = 0.1, least: float = 0.0
) -> list[Interactions]:
    """The data set ``movielens-100k-kg``; see its card for details."""

    def columns(part: str, *wanted: str) -> list[list[str]]:
        return recbole_columns(text_of("movielens_100k_kg", f"movie.{part}", root), f"movie.{part}", wanted)

    items, titles = columns("item", "item_id", "movie_title")
    entity = dict(zip(*columns("link", "item_id", "entity_id"), strict=True))
    named_triples = list(zip(*columns("kg", "head_id", "relation_id", "tail_id"), strict=True))
    number = {item: i for i, item in enumerate(items)}
    nodes = {entity.get(item, f"item {item}"): i for i, item in enumerate(items)}
    kinds: dict[str, int] = {}
    triples = [
        (nodes.setdefault(h, len(nodes)), kinds.setdefault(r, len(kinds)), nodes.setdefault(t, len(nodes)))
        for h, r, t in named_triples
    ]
    head, relation, tail = torch.tensor(triples).T
    kg = KnowledgeGraph.from_triples(
        head=head,
        relation=relation,
        tail=tail,
        num_nodes=len(nodes),
        num_relations=len(kinds),
        node_names=[*titles, *list(nodes)[len(titles) :]],
        relation_names=kinds,
    )
    user_names, item_names, ratings = columns("inter", "user_id", "item_id", "rating")
    users = {name: i for i, name in enumerate(sorted(set(user_names), key=int))}
    taken = [i for i, rating in enumerate(ratings) if float(rating) >= least]
    data = Interactions.random(
        [users[user_names[i]] for i in taken],
        [number[item_names[i]] for i in taken],
        kg,
        num_users=len(users),
        num_items=len(number),
        val_fraction=val,
        test_fraction=test,
        seed=seed,
        user_names=[f"user {name}" for name in users],
    )
    return [data] if least else _checked("movielens-100k-kg", data, _MOVIELENS)


# ---------------------------------------------------------------------- KGAT


_TERMS = "research use with acknowledgement; no redistribution without permission, no commercial use"
_KGAT = "X. Wang, X. He, Y. Cao, M. Liu, T.-S. Chua: KGAT: Knowledge Graph Attention Network for Recommendation, 2019"
_LAST_FM = _sizes(23566, 48123, 423635, 106389, 9, 464567)
_BOOKS = _sizes(70679, 24915, 652514 + 193920, 24915, 0, 0)


def _pairs(text: str, source: str) -> Tensor:
    """Pairs [2, K] from lines ``user item item ...``; repeated items in a line are merged, a line may have no items."""
    users: list[int] = []
    items: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split()
        if not all(f.isascii() and f.isdigit() and len(f) < 18 for f in fields):
            raise DataError(f"{source}, line {number}: expected whole numbers, got {line[:60]!r}")
        taken = dict.fromkeys(map(int, fields[1:]))
        users += [int(fields[0])] * len(taken) if fields else []
        items += taken
    return torch.tensor([users, items], dtype=torch.long)


@register(
    "kgat-last-fm",
    description="KGAT's Last-FM: the full knowledge graph, and only the published test interactions, with a new split.",
    kind="interactions",
    task="recommendation",
    target_spec=_SPEC,
    license=_TERMS,
    redistribute=False,
    citation=_KGAT + ".",
    caveats=(
        "The published training interactions are not included: results are not comparable with published tables.",
        "192,701 entries of the published test part repeat an item of their line; they are merged.",
        _RANDOM,
    ),
    sizes=_LAST_FM,
    files=["kgat_last_fm/test.txt", "kgat_last_fm/kg_final.txt.zip", "kgat_last_fm/relation_list.txt"],
)
def kgat_last_fm(root: Root = None, *, seed: int = 0, val: float = 0.2, test: float = 0.2) -> list[Interactions]:
    """The data set ``kgat-last-fm``; see its card for details."""
    file = fetch_listed("kgat_last_fm", "kg_final.txt.zip", root)
    try:
        with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive, archive.open("kg_final.txt") as stream:
            content = read_at_most(stream, _MAX_BYTES + 1)
    except Exception as error:  # zipfile raises many types of errors for damaged archives
        raise DataError(f"{file}: damaged zip archive ({error})") from error
    if len(content) > _MAX_BYTES:
        raise DataError(f"{file}: unpacks to more than {_MAX_BYTES} bytes")
    lines = text_of("kgat_last_fm", "relation_list.txt", root).splitlines()[1:]
    kg = numbered_triples(content.decode("ascii", "replace"), None, f"{file}: kg_final.txt").graph(
        _LAST_FM["nodes"],
        _LAST_FM["relations"],
        relation_names=[line.split()[0].rpartition("/")[2] for line in lines if line.strip()],
    )
    user, item = _pairs(text_of("kgat_last_fm", "test.txt", root), "test.txt")
    users, items = _LAST_FM["users"], _LAST_FM["items"]
    data = Interactions.random(
        user, item, kg, num_users=users, num_items=items, val_fraction=val, test_fraction=test, seed=seed
    )
    return _checked("kgat-last-fm", data, _LAST_FM)


@register(
    "kgat-amazon-book",
    description="KGAT's Amazon-book: all published training and test interactions, without the knowledge graph.",
    kind="interactions",
    task="recommendation",
    target_spec=_SPEC,
    license=_TERMS,
    redistribute=False,
    citation=_KGAT + ". J. McAuley: Amazon reviews.",
    caveats=(
        "The published knowledge graph (2.56 million triples) is not included: use it for collaborative filtering.",
        "The split is the published one; a random 10 % of the training pairs, sampled with `seed`, is for validation.",
        "88 users have no test items.",
    ),
    sizes=_BOOKS,
    files=["kgat_amazon_book/train.txt", "kgat_amazon_book/test.txt"],
)
def kgat_amazon_book(root: Root = None, *, seed: int = 0, val: float = 0.1) -> list[Interactions]:
    """The data set ``kgat-amazon-book``; see its card for details."""
    train, test = (_pairs(text_of("kgat_amazon_book", f"{p}.txt", root), f"{p}.txt") for p in ("train", "test"))
    order = torch.randperm(train.shape[1], generator=torch.Generator().manual_seed(seed))
    val_rows, train_rows = order.tensor_split([round(val * len(order))])
    kg = KnowledgeGraph.from_triples(head=[], relation=[], tail=[], num_nodes=_BOOKS["items"], num_relations=0)
    users, items = _BOOKS["users"], _BOOKS["items"]
    return _checked(
        "kgat-amazon-book",
        Interactions.from_pairs(train[:, train_rows], train[:, val_rows], test, kg, num_users=users, num_items=items),
        _BOOKS,
    )
