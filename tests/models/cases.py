"""A case for every public model: how to build it and its inputs, and which clauses do not apply, with the reason.

tests/test_meta.py fails when a public model has no case.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from hgraph.data import Interactions
from hgraph.models import (
    APPNP,
    BPRMF,
    CFKG,
    CKE,
    EDHNN,
    FM,
    GAT,
    GCMC,
    GCN,
    GCNII,
    GPS,
    H2GCN,
    HAN,
    HGNN,
    HGNNP,
    HGT,
    KGAT,
    KGCN,
    LEGCN,
    LINKX,
    MLP,
    NFM,
    RGCN,
    TFHNN,
    AarenEncoder,
    AllDeepSets,
    AllSetTransformer,
    AxialTransformer,
    ComplEx,
    DistMult,
    GraphClassifier,
    HyperGCN,
    HyperND,
    LightGCN,
    PhenomNN,
    PositionalTransformer,
    RippleNet,
    RotatE,
    SheafHyperGNN,
    Stack,
    TransE,
    TransNormer,
    TransR,
    TwoTower,
    UniGCNII,
    ViT,
    YOLOv13,
)
from hgraph.nn import SoftHGNN
from hgraph.testing import Case, random_graph, random_hypergraph, random_knowledge_graph

IN, CLASSES = 4, 3
NO_RESET = {"reset": "a model is initialized once; it has no reset_parameters()"}


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---------------------------------------------------------------------- networks over nodes


def over(structure):
    """Inputs (x [n, IN], structure(n, seed)), or x alone."""

    def inputs(n, seed=0, dtype=torch.float64):
        x = randn(n, IN, seed=seed + 7).to(dtype)
        return (x,) if structure is None else (x, structure(n, seed))

    return inputs


def graph(n, seed):
    return random_graph(n, 3 * n, seed=seed, weighted=True)


def hypergraph(n, seed):
    return random_hypergraph(n, n // 2 + 1, 2 * n, seed=seed, weighted=True)


def typed(n, seed):
    """Triples between nodes of two types."""
    return dataclasses.replace(random_knowledge_graph(n, 4 * n, seed=seed), node_type=torch.arange(n) % 2)


def paths(n, seed):
    """One graph per meta-path."""
    return [random_graph(n, 3 * n, seed=seed + 100 * p) for p in range(3)]


def uncompiled(reason):
    return dict.fromkeys(("compile", "recompile", "compile_gradients"), reason)


COUNTS = uncompiled("counts triples by type or relation on the host, so sizes depend on data")
SUBSET = uncompiled("selects triples of its structure in the forward, so sizes depend on data")


def node_model(build, structure, **without):
    return Case(build, over(structure), roundings=16, sizes=(12, 14, 21), without=NO_RESET | without)


RINGS = uncompiled("computes the nodes at distance two on the host, so sizes depend on data")
PER_NODE = dict.fromkeys(("permutation", "empty"), "has a vector per node of one graph")
EVERY = {"recompile": "the graph of all tokens of a length is a constant of the compiled graph"}


def one_graph(n, seed=0, dtype=torch.float64):
    """Inputs over a graph of 12 nodes, whatever the size."""
    return over(graph)(12, seed, dtype)


NODES = {
    "APPNP": node_model(lambda: APPNP(IN, 5, CLASSES), graph),
    "GCNII": node_model(lambda: GCNII(IN, 5, CLASSES, num_layers=4), graph),
    "GPS": node_model(lambda: GPS(IN, 8, CLASSES), graph, **EVERY),
    "H2GCN": node_model(lambda: H2GCN(IN, 5, CLASSES), graph, **RINGS),
    "LINKX": dataclasses.replace(
        node_model(lambda: LINKX(IN, 5, CLASSES, num_nodes=12), graph, **PER_NODE), inputs=one_graph, sizes=(12, 12, 12)
    ),
    "GAT": node_model(lambda: GAT(IN, 5, CLASSES, num_heads=2), graph),
    "GCN": node_model(lambda: GCN(IN, 5, CLASSES), graph),
    "HAN": node_model(lambda: HAN(IN, 5, CLASSES, num_paths=3, num_heads=2, semantic_channels=4), paths),
    "HGNN": node_model(lambda: HGNN(IN, 5, CLASSES), hypergraph),
    "HGNNP": node_model(lambda: HGNNP(IN, 5, CLASSES), hypergraph),
    "HGT": node_model(
        lambda: HGT(IN, 6, CLASSES, num_relations=3, num_types=2, num_heads=2),
        typed,
        batch="takes x [N, F] alone, grouped by node type",
        **COUNTS,
    ),
    "MLP": node_model(
        lambda: MLP(IN, 5, CLASSES), None, batch="batch norm takes rows alone", caches="takes no structure"
    ),
    "AllDeepSets": node_model(lambda: AllDeepSets(IN, 32, CLASSES), hypergraph),
    "AllSetTransformer": node_model(lambda: AllSetTransformer(IN, 16, CLASSES), hypergraph),
    "EDHNN": node_model(lambda: EDHNN(IN, 8, CLASSES, num_layers=2), hypergraph),
    "HyperND": node_model(lambda: HyperND(IN, 8, CLASSES, num_steps=5), hypergraph),
    "HyperND cubes": node_model(lambda: HyperND(IN, 8, CLASSES, num_steps=3, power=3.0), hypergraph),
    "HyperGCN": node_model(
        lambda: HyperGCN(IN, 5, CLASSES),
        hypergraph,
        batch="the graph is built from the features of one example",
        **uncompiled("the graph is built from the features, on the host"),
    ),
    "SheafHyperGNN": node_model(
        lambda: SheafHyperGNN(IN, 5, CLASSES), hypergraph, batch="the maps of every incidence are one example's"
    ),
    "LEGCN": node_model(lambda: LEGCN(IN, 8, CLASSES), hypergraph),
    "PhenomNN": node_model(
        lambda: PhenomNN(IN, 8, CLASSES, num_steps=4, lam_clique=1.0, compatibility=True), hypergraph
    ),
    "TFHNN": node_model(lambda: TFHNN(IN, 8, CLASSES), hypergraph),
    "UniGCNII": node_model(lambda: UniGCNII(IN, 8, CLASSES, norm=False), hypergraph),
    "Stack": node_model(lambda: Stack("HGNNPConv", IN, 5, CLASSES, num_layers=3), hypergraph),
    "RGCN": node_model(lambda: RGCN(IN, 5, CLASSES, num_relations=3, num_bases=2, dropout=0.5), typed),
}

# ---------------------------------------------------------------------- recommenders

U, I, ENTITIES, RELATIONS = 5, 6, 9, 3


def interactions(seed=0):
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.stack([torch.arange(15) % U, torch.randint(I, (15,), generator=generator)]).unique(dim=1)
    kg = random_knowledge_graph(ENTITIES, 20, RELATIONS, seed=seed)
    return Interactions.random(*pairs, kg, num_users=U, num_items=I, seed=seed)


class Recommends(nn.Module):
    """A recommender called for its scores and losses."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, structure, users, taken, other, head, relation, tail):
        scores = self.model.score(self.model(structure), users)
        losses = [self.model.pair_loss(structure, users[: len(taken)], taken, other, l2=0.01)]
        if self.model.has_triples:
            losses.append(self.model.triple_loss(head, relation, tail, other, l2=0.01))
        return scores, losses


def recommender(build, **without):
    def inputs(n, seed=0, dtype=torch.float64):
        torch.manual_seed(seed)
        model = build()
        structure = model.start(model.structure(interactions(seed)))
        ids = torch.arange(U), torch.tensor([1, 0, 3]), torch.tensor([2, 5, 1])
        return structure, *ids, *structure.triples[[0, 5, 7]].unbind(1)

    fixed = "has a fixed number of users and items"
    without |= {
        "empty": fixed,
        "single": fixed,
        "batch": "takes ids, all of one structure",
        "permutation": "every id has its own embedding",
    }
    return Case(lambda: Recommends(build()), inputs, roundings=16, shape=lambda *_: (U, I), without=NO_RESET | without)


IGNORES = {"caches": "the scores do not depend on the structure"}
RECOMMENDERS = {
    "BPRMF": recommender(lambda: BPRMF(U, I, dim=4), **IGNORES),
    "CFKG": recommender(lambda: CFKG(U, I, ENTITIES, 2 * RELATIONS + 2, dim=4), **IGNORES),
    "CKE": recommender(lambda: CKE(U, I, ENTITIES, RELATIONS, dim=4, relation_dim=3), **IGNORES, **COUNTS),
    "FM": recommender(lambda: FM(U, I, ENTITIES, dim=4), **SUBSET),
    "GCMC": recommender(lambda: GCMC(U, I, ENTITIES, 2 * RELATIONS + 2, dim=4), **SUBSET),
    "KGAT": recommender(
        lambda: KGAT(U, I, ENTITIES, 2 * RELATIONS + 2, dim=4, relation_dim=3, layer_channels=(5, 2)), **COUNTS
    ),
    "KGCN": recommender(lambda: KGCN(U, I, ENTITIES, 2 * RELATIONS, dim=4, num_layers=2, fanout=3), **SUBSET),
    "LightGCN": recommender(lambda: LightGCN(U, I, dim=4), **SUBSET),
    "NFM": recommender(lambda: NFM(U, I, ENTITIES, dim=4, hidden_channels=5), **SUBSET),
    "RippleNet": recommender(lambda: RippleNet(U, I, ENTITIES, RELATIONS, dim=4, memory=5), **SUBSET),
    "TwoTower": recommender(lambda: TwoTower(U, I, ENTITIES, dim=4, hidden_channels=6, out_channels=3), **SUBSET),
}

# ---------------------------------------------------------------------- models of triples

N, R = 7, 3


class Scores(nn.Module):
    """A model of triples called for all its scores and its loss."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, head, relation, tail):
        scores = [
            self.model.score(head, relation, tail),
            self.model.score_tails(head, relation),
            self.model.score_heads(relation, tail),
        ]
        return [*scores, self.model.loss(head, relation, tail, l2=0.1)] if len(head) else scores


def triples(n, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(count, (n,), generator=generator) for count in (N, R, N))


def triple_model(build, **without):
    without |= {
        "batch": "the loss is a mean over the triples",
        "caches": "takes ids, no structure",
        "permutation": "every id has its own embedding",
    }
    return Case(
        lambda: Scores(build()), triples, shape=lambda head, *_: head.shape, roundings=16, without=NO_RESET | without
    )


TRIPLES = {
    "ComplEx": triple_model(lambda: ComplEx(N, R, dim=4)),
    "DistMult": triple_model(lambda: DistMult(N, R, dim=4)),
    "RotatE": triple_model(lambda: RotatE(N, R, dim=4)),
    "TransE": triple_model(
        lambda: TransE(N, R, dim=4),
        half="torch.cdist has no half kernel on a CPU",
        second_gradients="torch.cdist has no second derivative",
    ),
    "TransR": triple_model(lambda: TransR(N, R, dim=4, relation_dim=3), **COUNTS),
}

# ---------------------------------------------------------------------- networks over images


def images(height, width):
    def inputs(n, seed=0, dtype=torch.float64):
        generator = torch.Generator().manual_seed(seed)
        return (torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64).to(dtype),)

    return inputs


def vision_model(build, inputs, shape, **without):
    """As it is initialized, but with weaker normalization, since otherwise thirty layers would erase the image."""

    def with_small_variances():
        model = build()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.fill_(0.3)
        return model

    size = "takes images of one size"
    without |= {"caches": "takes no structure"}
    slow = "hundreds of parameters; tests/models/vision checks the gradient along a direction"
    without |= {"permutation": "pixels have places", "empty": size, "single": size, "gradients": slow}
    without |= {"second_gradients": slow}
    return Case(
        with_small_variances, inputs, batched=True, scale=None, shape=shape, roundings=32, without=NO_RESET | without
    )


def vit():
    last = SoftHGNN(8, 4, dropout=0.0)
    return ViT(32, 3, patch=8, dim=8, num_layers=2, num_heads=2, dropout=0.0, small_data=True, last=last)


def pixels(n, seed=0, dtype=torch.float64):
    return (torch.randint(3, (2, 3, 4, 2), generator=torch.Generator().manual_seed(seed)),)


def axial_transformer():
    return AxialTransformer(
        3, 4, 2, num_classes=3, dim=8, num_heads=2, exterior=2, outer=2, inner=1, mlp_ratio=2, residual_scale=1.0
    )


def sequences(n, seed=0, dtype=torch.float64):
    return (randn(2, n, 1, seed=seed).to(dtype),)


def vectors(n, seed=0, dtype=torch.float64):
    return (randn(2, n, 4, seed=seed).to(dtype),)


def words(n, seed=0, dtype=torch.float64):
    return (torch.randint(7, (2, n), generator=torch.Generator().manual_seed(seed)),)


SEQUENCE = {
    "AarenEncoder": Case(
        lambda: AarenEncoder(4, 2, num_layers=2, hidden_channels=6), vectors, batched=True, roundings=32,
        without={"permutation": "tokens have places", "caches": "takes no structure"},
    ),
    "TransNormer": Case(
        lambda: TransNormer(7, 4, num_heads=2, num_layers=2, hidden_channels=6), words, batched=True, roundings=64,
        shape=lambda x: (*x.shape, 7), without={"permutation": "tokens have places", "caches": "takes no structure"},
    ),
    "PositionalTransformer": Case(
        lambda: PositionalTransformer(1, 8, 1, num_positions=40, num_layers=2), sequences, batched=True, roundings=16,
        without=NO_RESET | {"permutation": "tokens have places", "caches": "takes no structure"},
    ),
}  # fmt: skip

VISION = {
    "ViT": vision_model(vit, images(32, 32), lambda x: (len(x), 3)),
    "YOLOv13": vision_model(
        lambda: YOLOv13("n", num_classes=3),
        images(64, 32),
        lambda x: (len(x), 42, 4),
        parameter_gradients="gates that start at 0 give some parameters a gradient of 0",
        layouts="thirty layers amplify roundings; tests/nn checks its blocks",
        compile_gradients="takes two minutes; tests/nn checks its blocks",
    ),
    "AxialTransformer": Case(
        axial_transformer, pixels, batched=True, shape=lambda x: (*x.shape, 3), roundings=16, without={
            "permutation": "pixels have places",
            "second_gradients": "takes 10 s; tests/nn checks AxialAttention",
            "caches": "takes no structure",
        },
    ),
}  # fmt: skip
GRAPHS = {
    "GraphClassifier": Case(
        lambda: GraphClassifier(Stack("GINConv", IN, 5, CLASSES, jump="cat")),
        over(graph),
        shape=lambda x, graph: (*x.shape[:-2], 1, CLASSES),
        roundings=16,
        without=NO_RESET | {"permutation": "its only output is of the whole graph"},
    ),
}
CASES = NODES | GRAPHS | RECOMMENDERS | TRIPLES | SEQUENCE | VISION
