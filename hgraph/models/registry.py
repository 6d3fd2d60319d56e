"""All models: their command-line names, the data they need, and how to build them for given data.

Classes are given as ``"module:Class"``: reading this list imports no model and no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from hgraph.errors import ArgumentError, did_you_mean

__all__ = ["DATA", "MODELS", "SIZES", "TASKS", "ModelEntry", "find", "select"]

# Kind of data -> the inputs of its models.
DATA = {
    "graph": "node features and a Graph",
    "hypergraph": "node features and a Hypergraph",
    "features": "node features only",
    "knowledge graph": "node features and a KnowledgeGraph",
    "interactions": "Interactions of users with items",
    "triples": "a TripleSplit of a KnowledgeGraph",
    "images": "images",
    "sequences": "sequences of numbers or tokens",
}
TASKS = (
    "node classification",
    "recommendation",
    "triple completion",
    "image classification",
    "object detection",
    "image generation",
    "sequence modeling",
)

# Size of the data, as named in an entry -> how to read it from `Data`, `Interactions` or a `TripleSplit`.
SIZES: dict[str, Callable[[Any], int]] = {
    "features": lambda data: data.num_features,
    "classes": lambda data: data.num_outputs,
    "nodes": lambda data: data.num_nodes,
    "users": lambda data: data.num_users,
    "items": lambda data: data.num_items,
    "entities": lambda data: data.kg.num_nodes,
    "relations": lambda data: data.kg.num_relations,
    "relations and inverses": lambda data: 2 * data.kg.num_relations,
    # the collaborative graph has one more relation, "interacts with"
    "relations and inverses of the collaborative graph": lambda data: 2 * (data.kg.num_relations + 1),
    "relations of the structure": lambda data: data.structure.num_relations,
    "node types of the structure": lambda data: _num_types(data.structure),
    "nodes of the training graph": lambda data: data.train.num_nodes,
    "relations of the training graph": lambda data: data.train.num_relations,
}


def _num_types(kg: Any) -> int:
    """The number of node types; a type may have no nodes."""
    if kg.type_names is not None:
        return len(kg.type_names)
    return 1 if kg.node_type is None or not len(kg.node_type) else int(kg.node_type.max()) + 1


@dataclass(frozen=True)
class ModelEntry:
    """One entry of `MODELS`.

    Args:
        name: its command-line name, lower case.
        path: its class as ``"module:Class"``.
        title: its name in reports and tables.
        data: a key of `DATA`.
        task: one of `TASKS`.
        message: the kind of message, for the table of README.md.
        layers: its layers in `hgraph.nn`.
        sizes: argument of the class -> a key of `SIZES`.
        width: the default hidden size.
        widths: argument of the class -> the divisor of the hidden size, or a tuple of them.
        options: other arguments that differ from the defaults of the class.
        student: whether it is a distillation student.
        starts_from: names of models whose trained vectors can initialize it.
        paper: the id of its paper in papers.toml.
    """

    name: str
    path: str
    title: str
    data: str
    task: str
    message: str
    layers: tuple[str, ...] = ()
    sizes: Mapping[str, str] = field(default_factory=dict)
    width: int = 0
    widths: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    student: bool = False
    starts_from: tuple[str, ...] = ()
    paper: str | None = None

    @property
    def of_one_graph(self) -> bool:
        """Whether the network learns a vector per node, so that it cannot be used on other nodes."""
        return "nodes" in self.sizes.values()

    @property
    def module(self) -> str:
        return self.path.partition(":")[0]

    @property
    def class_name(self) -> str:
        return self.path.partition(":")[2]

    def load(self) -> Any:
        """Import and return the class."""
        return getattr(import_module(self.module), self.class_name)

    def arguments(self, data: Any = None, hidden_size: int | None = None, **options: Any) -> dict[str, Any]:
        """Keyword arguments of the class for given data.

        Args:
            data: the source of sizes: `Data`, `Interactions` or a `TripleSplit`; not needed for images.
            hidden_size: None takes the entry's default. Other widths are derived from it.
            **options: other arguments of the class; they override those of the entry.

        Raises:
            ArgumentError: the data lacks sizes that the model needs.

        >>> find("gat").arguments(hidden_size=64, in_channels=8, num_classes=2)["hidden_channels"]
        8
        """
        hidden = self.width if hidden_size is None else hidden_size
        made = {name: _parts(hidden, divisor) for name, divisor in self.widths.items()}
        try:
            made |= {name: SIZES[size](data) for name, size in self.sizes.items() if name not in options}
        except AttributeError:
            got = type(data).__name__
            raise ArgumentError("data", f"{DATA[self.data]} for {self.title}", got) from None
        return made | dict(self.options) | options


def _parts(hidden: int, divisor: int | tuple[int, ...]) -> int | tuple[int, ...]:
    if isinstance(divisor, tuple):
        return tuple(max(hidden // d, 1) for d in divisor)
    return max(hidden // divisor, 1)


_NODES = {"in_channels": "features", "num_classes": "classes"}
_PAIRS = {"num_users": "users", "num_items": "items"}
_ITEMS = {**_PAIRS, "num_entities": "entities"}
_COLLABORATIVE = {**_ITEMS, "num_relations": "relations and inverses of the collaborative graph"}
_TRIPLES = {"num_nodes": "nodes of the training graph", "num_relations": "relations of the training graph"}


def _node(name: str, path: str, title: str, data: str, message: str, **more: Any) -> ModelEntry:
    options: dict[str, Any] = {"sizes": _NODES, "width": 32, "widths": {"hidden_channels": 1}}
    path = f"hgraph.models.{path}"
    return ModelEntry(name, path, title, data, "node classification", message, **options | more)


def _stack(name: str, layer: str, data: str, message: str, **more: Any) -> ModelEntry:
    """A stack of equal layers, for a layer whose paper defines no network."""
    options = {"layer": layer, **more.pop("options", {})}
    title = more.pop("title", layer.removesuffix("Conv"))
    return _node(name, "stack:Stack", title, data, message, layers=(layer,), options=options, **more)


def _recommender(name: str, path: str, title: str, sizes: dict[str, str], message: str, **more: Any) -> ModelEntry:
    options: dict[str, Any] = {"sizes": sizes, "width": 64, "widths": {"dim": 1}}
    path = f"hgraph.models.recommend.{path}"
    return ModelEntry(name, path, title, "interactions", "recommendation", message, **options | more)


def _triples(name: str, title: str, message: str, **more: Any) -> ModelEntry:
    options: dict[str, Any] = {"sizes": _TRIPLES, "width": 64, "widths": {"dim": 1}}
    path = f"hgraph.models.triples.kge:{title}"
    return ModelEntry(name, path, title, "triples", "triple completion", message, **options | more)


# The order of the command line.
MODELS: tuple[ModelEntry, ...] = (
    _node(
        "hgnn", "hypergraph.hgnn:HGNN", "HGNN", "hypergraph",
        "nodes -> hyperedges -> nodes, symmetric", layers=("HGNNConv",), paper="04",
    ),
    _node(
        "hgnn+", "hypergraph.hgnnp:HGNNP", "HGNN+", "hypergraph",
        "nodes -> hyperedges -> nodes, means", layers=("HGNNPConv",), paper="04",
    ),
    _stack(
        "hcha", "HypergraphConv", "hypergraph", "nodes -> hyperedges -> nodes, means; a bias per node", title="HCHA"
    ),
    _stack("hnhn", "HNHNConv", "hypergraph", "nodes -> hyperedges -> nodes, by powers of degrees"),
    _stack("unigcn", "UniGCNConv", "hypergraph", "nodes -> hyperedges -> nodes, by both degrees"),
    _stack(
        "unigat", "UniGATConv", "hypergraph", "mean to hyperedges, attention back", options={"concat": False}
    ),
    _stack("unigin", "UniGINConv", "hypergraph", "mean to hyperedges, sum back, plus the node's own features"),
    _stack("unisage", "UniSAGEConv", "hypergraph", "mean to hyperedges, sum back, plus the node's own features"),
    _stack("hypersage", "HyperSAGEConv", "hypergraph", "generalized means in both steps, plus the node's own features"),
    _node(
        "hypergcn", "hypergraph.hypergcn:HyperGCN", "HyperGCN", "hypergraph",
        "GCN over a few edges per hyperedge", layers=("GCNConv",),
    ),
    _node(
        "sheafhypergnn", "hypergraph.sheaf:SheafHyperGNN", "SheafHyperGNN", "hypergraph",
        "diffusion by a learned map per incidence", layers=("SheafHypergraphConv",),
    ),
    _node(
        "unigcnii", "hypergraph.unigcnii:UniGCNII", "UniGCNII", "hypergraph",
        "UniGCN's sums, initial residuals, identity maps", layers=("UniGCNConv",), width=64,
    ),
    _node(
        "alldeepsets", "hypergraph.all_set:AllDeepSets", "AllDeepSets", "hypergraph",
        "deep sets in both steps", layers=("AllDeepSetsConv",), width=64,
    ),
    _node(
        "allset", "hypergraph.all_set:AllSetTransformer", "AllSetTransformer", "hypergraph",
        "attention pooling in both steps", layers=("AllSetTransformerConv",), width=64,
    ),
    _node(
        "ed-hnn", "hypergraph.ed_hnn:EDHNN", "ED-HNN", "hypergraph",
        "a message per incidence, one layer applied L times", layers=("EDHNNConv",), width=64,
    ),
    _node(
        "hypernd", "hypergraph.diffused:HyperND", "HyperND", "hypergraph",
        "generalized means, before an MLP", width=64,
    ),
    _node(
        "tf-hnn", "hypergraph.diffused:TFHNN", "TF-HNN", "hypergraph", "smoothing once, before an MLP", width=64,
    ),
    _node(
        "legcn", "hypergraph.legcn:LEGCN", "LEGCN", "hypergraph", "between incidences that share a node or a hyperedge",
        width=64,
    ),
    _node(
        "phenomnn", "hypergraph.phenomnn:PhenomNN", "PhenomNN", "hypergraph",
        "descent on an energy over clique and star expansion", width=64,
    ),
    _node(
        "gcn", "node.gcn:GCN", "GCN", "graph",
        "symmetric degree weights over a graph with self-loops", layers=("GCNConv",),
    ),
    _node(  # the width is per head: 8 heads of 4
        "gat", "node.gat:GAT", "GAT", "graph", "additive attention", layers=("GATConv",),
        widths={"hidden_channels": 8}, options={"num_heads": 8, "dropout": 0.5},
    ),
    _stack(
        "graphsage", "SAGEConv", "graph", "mean of the neighbors, plus the node's own features", title="GraphSAGE"
    ),
    _stack("gatv2", "GATv2Conv", "graph", "additive attention that ranks neighbors differently for each node",
           options={"concat": False, "num_heads": 8}),
    _stack("transformerconv", "TransformerConv", "graph", "dot-product attention over the neighbors",
           options={"concat": False, "num_heads": 4}),
    _stack("gin", "GINConv", "graph", "sum of the neighbors and the node, into an MLP"),
    _stack("sgc", "SGConv", "graph", "K steps of symmetric degree weights, then one linear map", title="SGC",
           width=0, widths={}, options={"num_layers": 1, "hidden_channels": 1}),
    _stack("tagcn", "TAGConv", "graph", "one linear map per number of hops", title="TAGCN"),
    _stack("chebnet", "ChebConv", "graph", "Chebyshev polynomials of the Laplacian", title="ChebNet"),
    _stack("pna", "PNAConv", "graph", "mean, maximum, minimum and deviation, scaled by degrees"),
    _stack(
        "edgeconv", "EdgeConv", "graph", "maximum over neighbors of a function of the feature difference",
        title="EdgeConv",
    ),
    _stack("gatedgcn", "GatedGCNConv", "graph", "a gate per edge and channel"),
    _node(
        "appnp", "node.appnp:APPNP", "APPNP", "graph", "an MLP, then personalized PageRank of its predictions",
        width=64,
    ),
    _node(
        "gcnii", "node.gcnii:GCNII", "GCNII", "graph", "GCN propagation with initial residuals and identity maps",
        width=64,
    ),
    _node(
        "h2gcn", "node.h2gcn:H2GCN", "H2GCN", "graph", "neighbors at distances one and two, concatenated", width=64,
    ),
    _node(
        "linkx", "node.linkx:LINKX", "LINKX", "graph", "one learned vector per neighbor, plus an MLP of the features",
        sizes={**_NODES, "num_nodes": "nodes"},
    ),
    _node(
        "gps", "node.gps:GPS", "GPS", "graph", "a local layer in parallel with attention to all nodes",
        layers=("GPSConv",), width=64,
    ),
    _node("mlp", "node.mlp:MLP", "MLP", "features", "none; used as the student", width=128, student=True),
    _recommender(
        "kgat", "kgat:KGAT", "KGAT", _COLLABORATIVE,
        "attention over typed triples, with weights computed from TransR embeddings", layers=("KGATConv",),
        widths={"dim": 1, "relation_dim": 1, "layer_channels": (1, 2, 4)}, starts_from=("bprmf",), paper="01",
    ),
    _recommender("bprmf", "bprmf:BPRMF", "BPR-MF", _PAIRS, "none: one vector per user and item"),
    _recommender("lightgcn", "lightgcn:LightGCN", "LightGCN", _PAIRS, "symmetric degree weights, no matrices"),
    _recommender("fm", "fm:FM", "FM", _ITEMS, "none: pairwise products of the features of a pair"),
    _recommender("nfm", "nfm:NFM", "NFM", _ITEMS, "none: an MLP over pairwise products"),
    _recommender(
        "cke", "cke:CKE", "CKE", {**_ITEMS, "num_relations": "relations"},
        "none: BPR-MF plus TransR vectors of the items", widths={"dim": 1, "relation_dim": 1},
    ),
    _recommender("cfkg", "cfkg:CFKG", "CFKG", _COLLABORATIVE, "none: interactions are triples of TransE"),
    _recommender(
        "gcmc", "gcmc:GCMC", "GC-MC", _COLLABORATIVE, "one matrix per kind of edge", layers=("RGCNConv",)
    ),
    _recommender(
        "kgcn", "kgcn:KGCN", "KGCN", {**_ITEMS, "num_relations": "relations and inverses"},
        "triples around an item, weighted by the user",
    ),
    _recommender(
        "ripplenet", "ripplenet:RippleNet", "RippleNet", {**_ITEMS, "num_relations": "relations"},
        "triples around a user's items, weighted by the candidate",
    ),
    _recommender(
        "twotower", "two_tower:TwoTower", "TwoTower", _ITEMS, "means of an item's attributes; used as the student",
        widths={"dim": 2, "hidden_channels": 1, "out_channels": 1}, student=True,
    ),
    _node(
        "han", "node.han:HAN", "HAN", "knowledge graph",
        "attention along meta-paths, then over them", layers=("HANConv",),
        sizes={**_NODES, "num_paths": "relations of the structure"},
        widths={"hidden_channels": 8}, options={"num_heads": 8},
    ),
    _node(
        "hgt", "node.hgt:HGT", "HGT", "knowledge graph",
        "attention over all triples, by types and relations", layers=("HGTConv",),
        sizes={
            **_NODES, "num_relations": "relations of the structure", "num_types": "node types of the structure",
        },
    ),
    _node(
        "rgcn", "node.rgcn:RGCN", "RGCN", "knowledge graph",
        "one matrix per relation: full, basis decomposition, or block-diagonal", layers=("RGCNConv",),
        sizes={**_NODES, "num_relations": "relations of the structure"},
    ),
    _triples("transe", "TransE", "none; scores how close h + r is to t"),
    _triples("transr", "TransR", "none; TransE in the space of the relation", widths={"dim": 1, "relation_dim": 1}),
    _triples("distmult", "DistMult", "none; scores by a product of h, r and t"),
    _triples("complex", "ComplEx", "none; scores by a product of complex h, r and t"),
    _triples("rotate", "RotatE", "none; scores how close h rotated by r is to t"),
    ModelEntry(
        "positionaltransformer", "hgraph.models.sequence.positional:PositionalTransformer", "PositionalTransformer",
        "sequences", "sequence modeling", "attention by positions only, the same for every sequence",
        layers=("PositionalAttention",), paper="18",
    ),
    ModelEntry(
        "aarenencoder", "hgraph.models.sequence.aaren:AarenEncoder", "AarenEncoder", "sequences", "sequence modeling",
        "softmax over all tokens so far, by one learned query per layer", layers=("Aaren",), paper="29",
    ),
    ModelEntry(
        "transnormer", "hgraph.models.sequence.transnormer:TransNormer", "TransNormer", "sequences",
        "sequence modeling", "linear attention with a decay per layer and head",
        layers=("TransNormerLayer", "NormLinearAttention", "LRPE", "SGLU"), paper="16",
    ),
    ModelEntry(
        "vit", "hgraph.models.vision.vit:ViT", "ViT", "images", "image classification",
        "attention over patches; SoftHGNN may be its last layer", layers=("SoftHGNN", "SoftHGNNSeS"), paper="03",
    ),
    ModelEntry(
        "axialtransformer", "hgraph.models.vision.axial_transformer:AxialTransformer", "AxialTransformer", "images",
        "image generation", "attention along rows and columns; generates images pixel by pixel",
        layers=("AxialAttention",), paper="09",
    ),
    ModelEntry(
        "yolov13", "hgraph.models.vision.yolov13:YOLOv13", "YOLOv13", "images", "object detection",
        "soft hyperedges over the pixels of three scales; attention within bands",
        layers=("HyperACE", "FullPAD", "AreaAttention", "A2C2f", "DSC3k2", "DSConv", "ConvBlock", "Detect"), paper="07",
    ),
)  # fmt: skip


def select(*, data: str | None = None, task: str | None = None, student: bool | None = None) -> tuple[ModelEntry, ...]:
    """The entries for a kind of data, a task, or both.

    >>> select(data="hypergraph")[0].name
    'hgnn'
    """
    return tuple(
        entry
        for entry in MODELS
        if data in (None, entry.data) and task in (None, entry.task) and student in (None, entry.student)
    )


def find(name: str) -> ModelEntry:
    """The entry by name.

    Raises:
        ArgumentError: an unknown name.

    >>> find("hgnn+").path
    'hgraph.models.hypergraph.hgnnp:HGNNP'
    """
    for entry in MODELS:
        if entry.name == name:
            return entry
    names = [entry.name for entry in MODELS]
    raise ArgumentError("name", f"one of {', '.join(names)}", repr(name), did_you_mean(name, names))
