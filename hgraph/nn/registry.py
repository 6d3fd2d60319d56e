"""All layers with their capabilities. Classes are given as ``"module:Class"``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from hgraph.errors import ArgumentError, did_you_mean

__all__ = ["LAYERS", "STRUCTURES", "LayerEntry", "find", "select"]

# Structure of a layer's messages -> how its forward receives it.
STRUCTURES = {
    "graph": "a Graph",
    "graphs": "one Graph per meta-path",
    "hypergraph": "a Hypergraph",
    "knowledge graph": "a KnowledgeGraph",
    "chain": "a sequence, whose order is the structure",
    "token graph": "a TokenGraph, given or made by the layer",
    "soft hypergraph": "hyperedges learned from the features",
    "pixels": "feature maps",
}


@dataclass(frozen=True)
class LayerEntry:
    """One entry of `LAYERS`.

    Args:
        path: its class as ``"module:Class"``.
        structure: a key of `STRUCTURES`.
        message: the kind of message, for the table of README.md.
        causal: whether it supports causal masking.
        cross: whether it supports cross-attention.
        state: whether it supports token-by-token decoding with a state.
        edge_features: whether it supports edge features.
        peers: libraries used for comparison tests, in addition to the paper's equations.
        paper: the id of its paper in papers.toml.
    """

    path: str
    structure: str
    message: str
    causal: bool = False
    cross: bool = False
    state: bool = False
    edge_features: bool = False
    peers: tuple[str, ...] = ()
    paper: str | None = None

    @property
    def name(self) -> str:
        return self.path.partition(":")[2]

    @property
    def package(self) -> str:
        """The subpackage of `hgraph.nn`."""
        return self.path.split(".")[2]

    def load(self) -> Any:
        """Import and return the class."""
        module, _, name = self.path.partition(":")
        return getattr(import_module(module), name)


def _graph(path: str, message: str, structure: str = "graph", **more: Any) -> LayerEntry:
    return LayerEntry(f"hgraph.nn.graph.{path}", structure, message, **more)


def _hypergraph(path: str, message: str, structure: str = "hypergraph", **more: Any) -> LayerEntry:
    return LayerEntry(f"hgraph.nn.hypergraph.{path}", structure, message, **more)


def _attention(path: str, message: str, **more: Any) -> LayerEntry:
    return LayerEntry(f"hgraph.nn.attention.{path}", "token graph", message, **more)


def _recurrent(path: str, message: str, **more: Any) -> LayerEntry:
    return LayerEntry(f"hgraph.nn.recurrent.{path}", "chain", message, **more)


def _vision(path: str, message: str, structure: str = "pixels") -> LayerEntry:
    return LayerEntry(f"hgraph.nn.vision.{path}", structure, message, paper="07")


LAYERS: tuple[LayerEntry, ...] = (
    _graph("gcn:GCNConv", "symmetric degree weights over a graph with self-loops", peers=("PyG",)),
    _graph("gat:GATConv", "additive attention", edge_features=True, peers=("PyG",)),
    _graph("sage:SAGEConv", "mean, sum or maximum of the neighbors, plus the node's own features"),
    _graph(
        "gatv2:GATv2Conv", "additive attention that ranks neighbors differently for each node",
        edge_features=True, peers=("PyG",),
    ),
    _graph(
        "transformer:TransformerConv", "dot-product attention over the neighbors, plus the node's own features",
        peers=("PyG",),
    ),
    _graph("gin:GINConv", "sum of the neighbors and the node, into an MLP", edge_features=True, peers=("PyG",)),
    _graph("polynomial:SGConv", "K steps of symmetric degree weights, then one linear map", peers=("PyG",)),
    _graph("polynomial:TAGConv", "one linear map per number of hops", peers=("PyG",)),
    _graph("polynomial:ChebConv", "Chebyshev polynomials of the Laplacian", peers=("PyG",)),
    _graph("pna:PNAConv", "mean, maximum, minimum and deviation, scaled by degrees", peers=("PyG",)),
    _graph("edge_conv:EdgeConv", "maximum over neighbors of a function of the feature difference", peers=("PyG",)),
    _graph("gated:GatedGCNConv", "a gate per edge and channel", edge_features=True, peers=("PyG",)),
    _graph("gps:GPSConv", "a local layer in parallel with attention to all nodes"),
    _graph("han:HANConv", "attention along meta-paths, then over them", "graphs"),
    _graph("hgt:HGTConv", "attention over all triples, by types and relations", "knowledge graph"),
    _graph("rgcn:RGCNConv", "one matrix per relation: full, basis decomposition, or block-diagonal", "knowledge graph"),
    LayerEntry(
        "hgraph.nn.recommend.kgat:KGATConv", "knowledge graph",
        "attention over typed triples, with weights computed from TransR embeddings", paper="01",
    ),
    _hypergraph("hgnn:HGNNConv", "nodes -> hyperedges -> nodes, symmetric", peers=("DHG",), paper="04"),
    _hypergraph("hgnnp:HGNNPConv", "nodes -> hyperedges -> nodes, means", peers=("DHG",), paper="04"),
    _hypergraph("hcha:HypergraphConv", "nodes -> hyperedges -> nodes, means or symmetric", peers=("PyG",)),
    _hypergraph("hcha:HypergraphAttentionConv", "nodes -> hyperedges -> nodes, by attention in both steps"),
    _hypergraph("hnhn:HNHNConv", "nodes -> hyperedges -> nodes, by powers of degrees, ReLU at hyperedges"),
    _hypergraph("unigcn:UniGCNConv", "nodes -> hyperedges -> nodes, by both degrees"),
    _hypergraph("unigat:UniGATConv", "mean to hyperedges, attention back"),
    _hypergraph("unigin:UniGINConv", "mean to hyperedges, sum back, plus the node's own features"),
    _hypergraph("unigin:UniSAGEConv", "mean to hyperedges, sum or mean back, plus the node's own features"),
    _hypergraph("hypersage:HyperSAGEConv", "generalized means in both steps, plus the node's own features"),
    _hypergraph("sheaf:SheafHypergraphConv", "a learned map per incidence"),
    _hypergraph("all_set:AllDeepSetsConv", "deep sets in both steps"),
    _hypergraph("all_set:AllSetTransformerConv", "attention pooling in both steps"),
    _hypergraph("ed_hnn:EDHNNConv", "mean to hyperedges, a message per incidence back"),
    _hypergraph(
        "soft:SoftHyperedges", "none: makes the soft hyperedges from the features", "soft hypergraph", paper="03"
    ),
    _hypergraph("soft:SoftHGNN", "nodes -> learned soft hyperedges -> nodes", "soft hypergraph", paper="03"),
    _hypergraph(
        "soft_select:SoftHGNNSeS", "the same, with the k best hyperedges of a pool per sample", "soft hypergraph",
        paper="03",
    ),
    _attention(
        "base:SelfAttention", "softmax over any token graph", causal=True, state=True, peers=("torch",)
    ),
    _attention(
        "base:CrossAttention", "softmax over the tokens of a context", causal=True, cross=True, peers=("torch",)
    ),
    _attention(
        "sqa:SparseQueryAttention", "fewer query heads than standard multi-head attention",
        causal=True, cross=True, state=True, paper="39",
    ),
    _attention(
        "power:PowerAttention", "a window, and distances that are powers of two", causal=True, state=True, paper="28"
    ),
    _attention("positional:PositionalAttention", "weights that depend on positions only", paper="18"),
    _attention("axial:AxialAttention", "attention along one axis or all axes of a grid", causal=True, paper="09"),
    _attention(
        "moh.layer:MixtureOfHeadAttention", "heads chosen per token", causal=True, state=True, paper="19"
    ),
    _attention("moa.layer:MoAAttention", "one span per head", causal=True, state=True, paper="31"),
    _attention(
        "routing.layer:RoutingAttention", "softmax within content-based clusters of tokens; some local heads",
        causal=True, state=True, paper="17",
    ),
    _attention(
        "landmark.layer:LandmarkAttention", "earlier blocks through one landmark token each",
        causal=True, state=True, paper="35",
    ),
    _attention(
        "combiner.layer:CombinerAttention", "some tokens one by one, all others through summaries of regions",
        causal=True, state=True, paper="21",
    ),
    _recurrent(
        "aaren:Aaren", "softmax over all tokens so far, by one learned query", causal=True, state=True, paper="29"
    ),
    _recurrent(
        "lightning:LightningAttention", "sum weighted by products of queries and keys, with a decay per layer and head",
        causal=True, state=True, paper="14",
    ),
    _recurrent(
        "transnormer:NormLinearAttention", "as LightningAttention, with a gate and positions in queries and keys",
        causal=True, state=True, paper="16",
    ),
    _recurrent(
        "transnormer:TransNormerLayer", "gated linear attention, then a gated linear unit",
        causal=True, state=True, paper="16",
    ),
    _recurrent("transnormer:LRPE", "none: encodes positions in queries and keys", causal=True, paper="16"),
    _recurrent("transnormer:SGLU", "none: a product of two linear maps per token", causal=True, paper="16"),
    _recurrent(
        "normalized:NormalizedAttention", "linear attention over a learned normalizer, or the sum of the weights",
        causal=True, state=True, paper="30",
    ),
    _recurrent("state_space:S6", "state space with a decay per channel and row", causal=True, state=True, paper="30"),
    _recurrent("state_space:SSD", "state space with a decay per head", causal=True, state=True, paper="30"),
    _recurrent("gated:QLSTM", "gates that depend on the token only", causal=True, state=True, paper="30"),
    _recurrent("gated:RGLRU", "a learned decay per channel, sped up by a gate", causal=True, state=True, paper="30"),
    _vision("area:AreaAttention", "attention within bands of rows"),
    _vision("area:A2C2f", "a stage of area attention"),
    _vision("hyperace:HyperACE", "soft hyperedges over the pixels of three scales", "soft hypergraph"),
    _vision("hyperace:C3AH", "one branch of HyperACE", "soft hypergraph"),
    _vision("hyperace:FullPAD", "none: adds the output of HyperACE to a map, with a learned weight"),
    _vision("blocks:ConvBlock", "convolution, batch norm, SiLU"),
    _vision("blocks:DSConv", "depthwise-separable convolution"),
    _vision("blocks:DSBottleneck", "two separable convolutions with a residual"),
    _vision("blocks:DSC3k", "a stage of bottlenecks in parallel with a shortcut"),
    _vision("blocks:DSC3k2", "a stage that concatenates the outputs of its blocks"),
    _vision("detect:Detect", "none: boxes and scores of every cell"),
)  # fmt: skip


def select(package: str) -> tuple[LayerEntry, ...]:
    """The layers of a subpackage of `hgraph.nn`.

    >>> [entry.name for entry in select("recommend")]
    ['KGATConv']
    """
    return tuple(entry for entry in LAYERS if entry.package == package)


def find(name: str) -> LayerEntry:
    """The entry of a class by name.

    Raises:
        ArgumentError: an unknown name.

    >>> find("PowerAttention").causal
    True
    """
    for entry in LAYERS:
        if entry.name == name:
            return entry
    names = [entry.name for entry in LAYERS]
    raise ArgumentError("name", "a layer of hgraph.nn", repr(name), did_you_mean(name, names))
