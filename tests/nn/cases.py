"""A case for every public layer: how to build it and its inputs, and which clauses do not apply, with the reason.

tests/test_meta.py fails when a public layer, or a public decode state, has no case.
"""

from __future__ import annotations

import dataclasses
import functools

import torch

from hgraph import patterns
from hgraph.models import AarenEncoder
from hgraph.nn import (
    C3AH,
    LRPE,
    QLSTM,
    RGLRU,
    S6,
    SGLU,
    SSD,
    A2C2f,
    Aaren,
    AllDeepSetsConv,
    AllSetTransformerConv,
    AreaAttention,
    AxialAttention,
    ChebConv,
    CombinerAttention,
    ConvBlock,
    CrossAttention,
    Detect,
    DSBottleneck,
    DSC3k,
    DSC3k2,
    DSConv,
    EdgeConv,
    EDHNNConv,
    FullPAD,
    GATConv,
    GatedGCNConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    GPSConv,
    HANConv,
    HGNNConv,
    HGNNPConv,
    HGTConv,
    HNHNConv,
    HyperACE,
    HypergraphAttentionConv,
    HypergraphConv,
    HyperSAGEConv,
    KGATConv,
    LandmarkAttention,
    LightningAttention,
    MixtureOfHeadAttention,
    MoAAttention,
    NormalizedAttention,
    NormLinearAttention,
    PNAConv,
    PositionalAttention,
    PowerAttention,
    RGCNConv,
    RoutingAttention,
    SAGEConv,
    SelfAttention,
    SGConv,
    SheafHypergraphConv,
    SoftHGNN,
    SoftHGNNSeS,
    SoftHyperedges,
    SparseQueryAttention,
    TAGConv,
    TransformerConv,
    TransNormerLayer,
    UniGATConv,
    UniGCNConv,
    UniGINConv,
    UniSAGEConv,
)
from hgraph.nn.attention import CombinerState, KVState, LandmarkState, SpanRule, SpanState
from hgraph.nn.recurrent import ChainState, StackState
from hgraph.structure import Graph
from hgraph.testing import Case, random_graph, random_hypergraph, random_knowledge_graph

IN, OUT, DIM = 3, 2, 8


def randn(*shape, seed, dtype):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# ---------------------------------------------------------------------- layers over graphs and hypergraphs


def over(structure, channels=IN):
    """Inputs (x [n, channels], structure(n, seed))."""

    def inputs(n, seed=0, dtype=torch.float64):
        return randn(n, channels, seed=seed + 7, dtype=dtype), structure(n, seed)

    return inputs


def graph(n, seed):
    return random_graph(n, 3 * n, seed=seed, weighted=True)


def hypergraph(n, seed):
    return random_hypergraph(n, n // 2 + 1, 2 * n, seed=seed, weighted=True)


def knowledge_graph(n, seed):
    return random_knowledge_graph(n, 4 * n, seed=seed, weighted=True)


def typed(n, seed):
    """Triples between nodes of two types."""
    return dataclasses.replace(random_knowledge_graph(n, 4 * n, seed=seed), node_type=torch.arange(n) % 2)


def paths(n, seed):
    """One graph per meta-path."""
    return [random_graph(n, 3 * n, seed=seed + 100 * p) for p in range(2)]


def regular(n, seed):
    """A graph with the same number of edges for every seed: each node receives messages from two."""
    source = torch.randint(max(n, 1), (2 * n,), generator=torch.Generator().manual_seed(seed))
    pairs = torch.stack([source, torch.arange(n).repeat(2)])
    return Graph.from_edge_index(pairs, num_nodes=n, directed=True, duplicates="keep")


def with_edges(n, seed=0, dtype=torch.float64):
    """Node features, a graph, and features of its edges."""
    return *over(regular)(n, seed, dtype), randn(2 * n, 4, seed=seed + 9, dtype=dtype)


HOST = "node types are counted on the host, so the sizes of their groups depend on data"
EVERY = {"recompile": "the graph of all tokens of a length is a constant of the compiled graph"}
EDGES = {"permutation": "features of edges change their order; tests/nn/test_graph.py moves them"}
STRUCTURED = {
    "GATConv": Case(lambda: GATConv(IN, OUT, num_heads=2), over(graph)),
    "GATConv edges": Case(
        lambda: GATConv(IN, OUT, num_heads=2, edge_channels=4),
        with_edges,
        without=EDGES,
    ),
    "GCNConv": Case(lambda: GCNConv(IN, OUT), over(graph)),
    "GCNConv unweighted": Case(lambda: GCNConv(IN, OUT), over(lambda n, seed: random_graph(n, 3 * n, seed=seed))),
    "ChebConv": Case(lambda: ChebConv(IN, OUT, num_hops=3, largest=1.5), over(graph)),
    "EdgeConv": Case(lambda: EdgeConv(IN, OUT), over(graph)),
    "EdgeConv mlp": Case(lambda: EdgeConv(IN, OUT, mlp=torch.nn.Linear(2 * IN, OUT)), over(graph)),
    "GATv2Conv": Case(lambda: GATv2Conv(IN, OUT, num_heads=2), over(graph)),
    "GATv2Conv edges": Case(lambda: GATv2Conv(IN, OUT, num_heads=2, edge_channels=4), with_edges, without=EDGES),
    "GINConv": Case(lambda: GINConv(IN, OUT, learn_eps=True), over(graph)),
    "GINConv edges": Case(lambda: GINConv(IN, OUT, edge_channels=4), with_edges, without=EDGES),
    "GatedGCNConv": Case(lambda: GatedGCNConv(IN, OUT), over(graph)),
    "GatedGCNConv edges": Case(lambda: GatedGCNConv(IN, OUT, edge_channels=4), with_edges, without=EDGES),
    "PNAConv": Case(lambda: PNAConv(IN, OUT), over(graph)),
    "SGConv": Case(lambda: SGConv(IN, OUT), over(graph)),
    "TAGConv": Case(lambda: TAGConv(IN, OUT), over(graph)),
    "TransformerConv": Case(lambda: TransformerConv(IN, OUT, num_heads=2, gate=True), over(graph)),
    "GPSConv": Case(lambda: GPSConv(4, num_heads=2), over(graph, 4), without=EVERY),
    "HANConv": Case(lambda: HANConv(4, 3, 2, num_heads=2, semantic_channels=5), over(paths, 4)),
    "HGNNConv": Case(lambda: HGNNConv(IN, OUT), over(hypergraph)),
    "HGNNConv unweighted": Case(
        lambda: HGNNConv(IN, OUT), over(lambda n, seed: random_hypergraph(n, n // 2 + 1, 2 * n, seed=seed))
    ),
    "HGNNPConv": Case(lambda: HGNNPConv(IN, OUT), over(hypergraph)),
    "HGNNPConv unweighted": Case(
        lambda: HGNNPConv(IN, OUT), over(lambda n, seed: random_hypergraph(n, n // 2 + 1, 2 * n, seed=seed))
    ),
    "HGTConv": Case(
        lambda: HGTConv(4, 3, num_types=2, num_heads=2),
        over(typed, 4),
        without={
            "batch": "takes x [N, F] alone, grouped by node type",
            **dict.fromkeys(("compile", "recompile", "compile_gradients"), HOST),
        },
    ),
    "KGATConv": Case(lambda: KGATConv(IN, OUT), over(knowledge_graph)),
    "RGCNConv": Case(lambda: RGCNConv(IN, OUT, 3, num_bases=2), over(knowledge_graph)),
    "SAGEConv": Case(lambda: SAGEConv(IN, OUT), over(graph)),
    "SAGEConv max": Case(lambda: SAGEConv(IN, OUT, reduce="max"), over(graph)),
    "AllDeepSetsConv": Case(lambda: AllDeepSetsConv(IN, 8), over(hypergraph)),
    "AllSetTransformerConv": Case(lambda: AllSetTransformerConv(IN, 4, num_heads=2), over(hypergraph)),
    "EDHNNConv": Case(lambda: EDHNNConv(8), over(hypergraph, 8)),
    "HNHNConv": Case(lambda: HNHNConv(IN, OUT), over(hypergraph)),
    "HypergraphAttentionConv": Case(
        lambda: HypergraphAttentionConv(IN, OUT, num_heads=2),
        over(hypergraph),
        without={"batch": "the attention weights of every incidence are one example's"},
    ),
    "HyperSAGEConv": Case(lambda: HyperSAGEConv(IN, OUT), over(hypergraph)),
    "HyperSAGEConv cubes": Case(lambda: HyperSAGEConv(IN, OUT, power=3.0), over(hypergraph)),
    "SheafHypergraphConv": Case(
        lambda: SheafHypergraphConv(5, OUT, stalk_dim=2),
        over(hypergraph, 10),
        without={"batch": "the maps of every incidence are one example's"},
    ),
    "HypergraphConv": Case(lambda: HypergraphConv(IN, OUT), over(hypergraph)),
    "UniGATConv": Case(lambda: UniGATConv(IN, OUT, num_heads=2), over(hypergraph)),
    "UniGCNConv": Case(lambda: UniGCNConv(IN, OUT), over(hypergraph)),
    "UniGINConv": Case(lambda: UniGINConv(IN, OUT), over(hypergraph)),
    "UniSAGEConv": Case(lambda: UniSAGEConv(IN, OUT), over(hypergraph)),
    "RGCNConv unweighted": Case(
        lambda: RGCNConv(IN, OUT, 3, num_bases=2), over(lambda n, seed: random_knowledge_graph(n, 4 * n, seed=seed))
    ),
}


# ---------------------------------------------------------------------- attention between tokens

WINDOW = functools.partial(patterns.sliding_window, window=3)


def tokens(n, seed=0, dtype=torch.float64):
    return (randn(2, n, DIM, seed=seed, dtype=dtype),)


def wide(n, seed=0, dtype=torch.float64):
    return (randn(2, n, 16, seed=seed, dtype=dtype),)


def two_sequences(n, seed=0, dtype=torch.float64):
    return tokens(n, seed, dtype) + tokens(n + 2, seed + 1, dtype)


def grid(n, seed=0, dtype=torch.float64):
    return (randn(2, n, 3, DIM, seed=seed, dtype=dtype),)


NO_STRUCTURE = {"caches": "takes no structure"}
PATTERN = {"recompile": "the pattern of a length is a constant of the compiled graph"}
ORDERED = {"permutation": "the pattern depends on the order of tokens"}


def attention(build, inputs=tokens, without=(), **options):
    return Case(build, inputs, batched=True, roundings=16, without=NO_STRUCTURE | dict(without), **options)


ATTENTION = {
    "AxialAttention": attention(lambda: AxialAttention(DIM, 2, causal=True), grid, without=PATTERN | ORDERED),
    "CombinerAttention": attention(
        lambda: CombinerAttention(DIM, 2, block_size=3, activation="deepset", bias=True), without=PATTERN | ORDERED
    ),
    "CrossAttention": attention(lambda: CrossAttention(DIM, 2, num_kv_heads=1), two_sequences, without=PATTERN),
    "LandmarkAttention": attention(
        lambda: LandmarkAttention(DIM, 4, block_size=3, num_kv_heads=2, rotary=100.0), without=PATTERN | ORDERED
    ),
    "MixtureOfHeadAttention": attention(
        lambda: MixtureOfHeadAttention(DIM, 4, shared_heads=2, top_k=1), without=PATTERN
    ),
    "MoAAttention": attention(
        lambda: MoAAttention(DIM, 2, [SpanRule(2, 0.0), SpanRule(0, 0.5)], num_sink=1, block_size=2),
        without=PATTERN | ORDERED,
    ),
    "PowerAttention": attention(
        lambda: PowerAttention(DIM, 2, block_size=2, window=1, rotary=100.0), without=PATTERN | ORDERED
    ),
    "RoutingAttention": attention(
        lambda: RoutingAttention(DIM, 2, num_clusters=2, cluster_size=3, local_heads=1, local_window=2), without=ORDERED
    ),
    "SelfAttention": attention(
        lambda: SelfAttention(DIM, 4, pattern=WINDOW, num_kv_heads=2, causal=True), without=PATTERN | ORDERED
    ),
    "SparseQueryAttention": attention(
        lambda: SparseQueryAttention(DIM, 4, num_query_heads=2, num_kv_heads=1), without=PATTERN
    ),
    "SparseQueryAttention of a context": attention(
        lambda: SparseQueryAttention(DIM, 4, num_query_heads=2, num_kv_heads=1, rotary=100.0),
        two_sequences,
        without=PATTERN | ORDERED,
    ),
}


# ---------------------------------------------------------------------- layers over soft hyperedges, and of vision


def soft(n, seed=0, dtype=torch.float64):
    """B x N x D features, and a mask in which a third of the first example is padding."""
    mask = torch.ones(2, n, dtype=torch.bool)
    mask[0, n - n // 3 :] = False
    return randn(2, n, 4, seed=seed, dtype=dtype), mask


def maps(*scales):
    """Maps of 4 channels, n times each scale pixels high; n is made even."""

    def inputs(n, seed=0, dtype=torch.float64):
        n += n % 2
        sizes = [(int(n * scale), int(n * scale) + 2 * int(2 * scale)) for scale in scales]
        return tuple(randn(2, 4, *size, seed=seed + 50 * i, dtype=dtype) for i, size in enumerate(sizes))

    return inputs


def channels(count, stride=1):
    """The shape [B, count, H / stride, W / stride]."""
    return lambda x, *_: (len(x), count, *(-(-side // stride) for side in x.shape[2:]))


def vision(build, inputs, shape, **without):
    """A layer over maps of pixels."""
    without |= NO_STRUCTURE | {
        "permutation": "pixels have places",
        "empty": "torch's convolutions refuse maps without pixels",
    }
    return Case(build, inputs, batched=True, roundings=32, shape=shape, without=without)


def over_tokens(build, without=(), **options):
    """A layer with soft hyperedges over tokens."""
    return Case(build, soft, batched=True, roundings=32, without=NO_STRUCTURE | dict(without), **options)


TWICE = "torch's fused attention has no second derivative"
SOFT = {
    "SoftHGNN": over_tokens(lambda: SoftHGNN(4, 3, 2, dropout=0.0)),
    "SoftHGNNSeS": over_tokens(lambda: SoftHGNNSeS(4, 4, 1, 2, 2, dropout=0.0)),
    "SoftHyperedges": over_tokens(
        lambda: SoftHyperedges(4, 3, 2, dropout=0.0),
        shape=lambda x, mask: (len(x), 3, x.shape[1]),
        without={
            "half": "participation is float32 for half inputs; tests/nn/content checks its values",
            "permutation": "returns a structure, [B, M, N]; SoftHGNN is checked",
        },
    ),
}
VISION = {
    "A2C2f": vision(lambda: A2C2f(4, 64), maps(1), channels(64), second_gradients=TWICE),
    "AreaAttention": vision(lambda: AreaAttention(4, 2, area=2), maps(1), channels(4), second_gradients=TWICE),
    "C3AH": vision(lambda: C3AH(4, 16, 3, dropout=0.0), maps(1), channels(16)),
    "ConvBlock": vision(lambda: ConvBlock(4, 6, 3, stride=2), maps(1), channels(6, 2)),
    "DSBottleneck": vision(lambda: DSBottleneck(4), maps(1), channels(4)),
    "DSC3k": vision(lambda: DSC3k(4, expansion=0.5), maps(1), channels(4)),
    "DSC3k2": vision(lambda: DSC3k2(4, 8), maps(1), channels(8)),
    "DSConv": vision(lambda: DSConv(4, 6), maps(1), channels(6)),
    "Detect": vision(
        lambda: Detect((4, 4, 4), 3),
        maps(2, 1, 0.5),
        lambda *maps: (2, sum(x.shape[2] * x.shape[3] for x in maps), 4),
        second_gradients="takes 4 s; its blocks are checked one by one",
    ),
    "FullPAD": vision(lambda: FullPAD(), maps(1, 1), channels(4)),
    "HyperACE": vision(
        lambda: HyperACE((4, 4, 4), 32, num_hyperedges=3, dropout=0.0), maps(2, 1, 0.5), channels(32, 2)
    ),
}
# its weights are one matrix for all examples: no pattern, records or masks of heads
BY_POSITION = {
    "PositionalAttention": attention(lambda: PositionalAttention(DIM, 2, num_positions=40), without=ORDERED),
}


# ---------------------------------------------------------------------- recurrences: the order is the structure

RECURRENT = {
    "NormalizedAttention": attention(lambda: NormalizedAttention(DIM, 2, key_channels=6, bias=True), without=ORDERED),
    "NormalizedAttention by sums": attention(
        lambda: NormalizedAttention(DIM, 2, normalizer="sum", chunk=4), without=ORDERED
    ),
    "QLSTM": attention(lambda: QLSTM(DIM, reversed=True), without=ORDERED),
    "RGLRU": attention(lambda: RGLRU(DIM), without=ORDERED),
    "S6": attention(lambda: S6(DIM, state_size=3, chunk=4), without=ORDERED),
    "SSD": attention(lambda: SSD(DIM, 2, state_size=3, chunk=4), without=ORDERED),
    "LRPE": attention(lambda: LRPE(3, DIM), grid, without=ORDERED),
    "NormLinearAttention": attention(lambda: NormLinearAttention(DIM, 2, lrpe=True, bias=True), without=ORDERED),
    "SGLU": attention(lambda: SGLU(DIM, 6)),
    "TransNormerLayer": attention(lambda: TransNormerLayer(DIM, 2, hidden_channels=6, num_layers=3), without=ORDERED),
    "Aaren": attention(lambda: Aaren(DIM, 2), without=ORDERED),
    "LightningAttention": attention(lambda: LightningAttention(DIM, 2, bias=True, chunk=4), without=ORDERED),
    "LightningAttention both ways": attention(
        lambda: LightningAttention(DIM, 2, decay="linear", layer=1, num_layers=3, causal=False), without=ORDERED
    ),
}
CASES = STRUCTURED | ATTENTION | BY_POSITION | RECURRENT | SOFT | VISION


# ---------------------------------------------------------------------- decoders, and the state of each


def self_attention(pattern, num_heads=2, **options):
    return lambda: SelfAttention(DIM, num_heads, pattern=pattern, causal=True, **options)


def decoder(build, state=None):
    kind, make = state or (KVState, lambda layer, n: KVState(n))
    return kind, Case(build, tokens, batched=True, state=make)


CHAIN = (ChainState, lambda layer, n: ChainState())
COMBINER = (CombinerState, lambda layer, n: CombinerState(n))
LANDMARK = (LandmarkState, lambda layer, n: LandmarkState(max_blocks=n, topk=n))
SPANS = (SpanState, lambda layer, n: layer.span_state(n))


def moa():
    return MoAAttention(DIM, 2, [SpanRule(2, 0.0), SpanRule(0, 0.5)], num_sink=1, block_size=2)


# The class of the state, and the case.
DECODERS = {
    "all tokens": decoder(lambda: SelfAttention(DIM, 4, causal=True)),
    "window": decoder(self_attention(WINDOW, 4, rotary=100.0, num_kv_heads=2)),
    "dilated": decoder(self_attention(functools.partial(patterns.dilated, window=4, dilation=3))),
    "strided": decoder(self_attention(lambda n: patterns.strided(n, 4) | patterns.sliding_window(n, 4))),
    "global": decoder(self_attention(lambda n: patterns.global_tokens(n, [0, 3]) | patterns.sliding_window(n, 2))),
    "blocks": decoder(self_attention(functools.partial(patterns.block_local, size=4))),
    "per head": decoder(self_attention(lambda n: patterns.sink_band(n, [2, 8], num_sink=1, block_size=2))),
    "power": decoder(lambda: PowerAttention(DIM, 2, block_size=1, window=0)),
    "power in blocks": decoder(lambda: PowerAttention(DIM, 2, block_size=2, window=2, rotary=100.0)),
    "few queries": decoder(lambda: SparseQueryAttention(DIM, 4, num_query_heads=2, num_kv_heads=1, causal=True)),
    "few queries, more keys": decoder(
        lambda: SparseQueryAttention(DIM, 4, num_query_heads=2, num_kv_heads=4, causal=True, rotary=50.0)
    ),
    "mixture of heads": decoder(lambda: MixtureOfHeadAttention(DIM, 4, shared_heads=2, top_k=1, causal=True)),
    "routing": decoder(
        lambda: RoutingAttention(DIM, 2, num_clusters=2, cluster_size=30, local_heads=1, local_window=2, causal=True)
    ),
    "spans": decoder(moa),
    "spans in rings": decoder(moa, SPANS),
    "combiner": decoder(lambda: CombinerAttention(DIM, 2, block_size=3), COMBINER),
    "combiner of clusters": decoder(lambda: CombinerAttention(DIM, 2, plan="clusters", num_clusters=4), COMBINER),
    "aaren": decoder(lambda: Aaren(DIM, 2), CHAIN),
    "stack of recurrences": decoder(
        lambda: AarenEncoder(DIM, 2, num_layers=2, hidden_channels=6), (StackState, lambda layer, n: StackState(2))
    ),
    "gated lightning": decoder(lambda: NormLinearAttention(DIM, 2, lrpe=True), CHAIN),
    "layer of a language model": decoder(lambda: TransNormerLayer(DIM, 2, hidden_channels=6, chunk=4), CHAIN),
    "normalized": decoder(lambda: NormalizedAttention(DIM, 2, key_channels=6, normalizer="softplus"), CHAIN),
    "normalized by sums": decoder(lambda: NormalizedAttention(DIM, 2, normalizer="sum"), CHAIN),
    "quasi-LSTM": decoder(lambda: QLSTM(DIM), CHAIN),
    "RG-LRU": decoder(lambda: RGLRU(DIM), CHAIN),
    "S6": decoder(lambda: S6(DIM, state_size=3, chunk=4), CHAIN),
    "SSD": decoder(lambda: SSD(DIM, 2, state_size=3, chunk=4), CHAIN),
    "lightning": decoder(lambda: LightningAttention(DIM, 2, bias=True, chunk=4), CHAIN),
    "landmarks": decoder(lambda: LandmarkAttention(DIM, 2, block_size=3), LANDMARK),
}


# A case per family for inductor, with routers that choose several heads or hyperedges.
INDUCTOR = {
    name: CASES[name] for name in ("GATConv", "HGNNConv", "KGATConv", "SelfAttention", "LandmarkAttention", "C3AH")
} | {
    "MixtureOfHeadAttention": attention(lambda: MixtureOfHeadAttention(16, 8, shared_heads=2, top_k=3), wide),
    "MixtureOfHeadAttention by norms": attention(
        lambda: MixtureOfHeadAttention(16, 8, shared_heads=2, top_k=3, router="query_norm"), wide
    ),
    "SoftHGNNSeS": over_tokens(lambda: SoftHGNNSeS(4, 6, 1, 3, 2, dropout=0.0)),
}

SLOW_TO_COMPILE = {
    *VISION,
    "CombinerAttention",
    "HANConv",
    "MixtureOfHeadAttention",
    "MoAAttention",
    "RoutingAttention",
    "SparseQueryAttention",
}


def is_slow(name, clause):
    """Whether a check takes seconds, or repeats what a faster case checks: those wait for `make test-full`."""
    if clause.__name__ == "check_compile_gradients":
        return name not in ("GCNConv", "HGNNConv", "RGCNConv")
    if (name, clause.__name__) == ("HyperACE", "check_second_gradients"):
        return True
    return "compile" in clause.__name__ and (name in SLOW_TO_COMPILE or name.endswith("unweighted"))
