"""Networks over typed triples against their papers' sums as loops in float64, and what only they can learn."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hgraph import KnowledgeGraph, models, nn, train
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import Graph
from hgraph.testing import random_knowledge_graph

N, IN, CLASSES, R = 8, 4, 3, 3
KINDS = [v % 2 for v in range(N)]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomized(model):
    model = model.double().eval()
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter.copy_(0.5 * draw(*parameter.shape, seed=seed))
    return model


def facts():
    head, relation, tail = random_knowledge_graph(N, 24, R, seed=2).triples.unbind(1)
    return KnowledgeGraph.from_triples(
        head=head, relation=relation, tail=tail, num_nodes=N, num_relations=R, node_type=KINDS, duplicates="keep"
    )


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("bases", [None, 2])
def test_rgcn_parity(bases):
    kg, x = facts(), draw(N, IN, seed=50)
    model = randomized(models.RGCN(IN, 5, CLASSES, num_relations=R, num_bases=bases))
    means = torch.zeros(R, N, N).double()
    for h, r, t in kg.triples.tolist():
        means[r, h, t] += 1
    means /= means.sum(2, keepdim=True).clamp(min=1)

    def layer(x, conv):
        each = conv.weight[:, 0] if bases is None else torch.einsum("rb,bij->rij", conv.share, conv.weight[:, 0])
        return x @ conv.root + conv.bias + sum(means[r] @ x @ each[r] for r in range(R))

    close(model(x, kg), layer(layer(x, model.conv1).clamp(min=0), model.conv2))


@torch.no_grad()
def test_hgt_parity():
    kg, x, heads, width = facts(), draw(N, IN, seed=50), 2, 3
    model = randomized(models.HGT(IN, heads * width, CLASSES, num_relations=R, num_types=2, num_heads=heads))

    def typed(x, weight, bias):
        return torch.stack([row @ weight[kind] + bias[kind] for row, kind in zip(x, KINDS, strict=True)])

    x = F.gelu(typed(x, model.weight, model.bias))
    assert len(model.convs) == 2
    for conv in model.convs:
        key, query, value = (typed(x, conv.weight[i], conv.bias[i]).view(N, heads, width) for i in range(3))
        attended = torch.zeros(N, heads, width).double()
        for v in range(N):
            own = [(r, t) for h, r, t in kg.triples.tolist() if h == v]
            for i in range(heads):
                scores = [
                    math.exp(key[t, i] @ conv.attention[r, i] @ query[v, i] * conv.prior[r, i] / math.sqrt(width))
                    for r, t in own
                ]
                for score, (r, t) in zip(scores, own, strict=True):
                    attended[v, i] += score / sum(scores) * value[t, i] @ conv.message[r, i]
        x = x + typed(F.gelu(attended.flatten(1)), conv.weight[3], conv.bias[3])
    close(model(draw(N, IN, seed=50), kg), x @ model.out.weight.T + model.out.bias)


@torch.no_grad()
def test_han_parity():
    graphs, x, heads, width = [facts().view(r) for r in range(R)], draw(N, IN, seed=50), 2, 3
    model = randomized(models.HAN(IN, width, CLASSES, num_paths=R, num_heads=heads, semantic_channels=5))
    paths = []
    for conv, graph in zip(model.conv.paths, graphs, strict=True):
        value = conv.linear(x).view(N, heads, width)
        near = graph.adj.dense().double()  # parallel facts count as often as they are there
        near = near + torch.diag((near.diag() == 0).double())
        a, b = (value * conv.target_score).sum(-1), (value * conv.source_score).sum(-1)
        score = near[..., None] * torch.exp(F.leaky_relu(a[:, None] + b[None], 0.2))
        out = torch.einsum("vuh,uhd->vhd", score / score.sum(1, keepdim=True), value)
        paths.append(F.elu(out.flatten(1) + conv.bias))
    each = [(torch.tanh(z @ model.conv.weight + model.conv.bias) @ model.conv.query).mean() for z in paths]
    probs = torch.softmax(torch.stack(each), 0)
    out = sum(prob * z for prob, z in zip(probs, paths, strict=True))
    close(model(x, graphs), out @ model.out.weight.T + model.out.bias)


def by_type(x, kinds, widths):
    """The features of each type: the first columns of the rows of its nodes."""
    return [x[torch.tensor(kinds) == t][:, :width] for t, width in enumerate(widths)]


def mapped(x, maps):
    """The loop over nodes: the map of the type of each, of its own features."""
    seen, out = [0] * len(x), []
    for kind in KINDS:
        out.append(maps.maps[kind](x[kind][seen[kind]]))
        seen[kind] += 1
    return torch.stack(out)


@torch.no_grad()
def test_types_of_different_width():
    kg, x = facts(), by_type(draw(N, IN, seed=50), KINDS, [4, 2])
    graphs = [kg.view(r) for r in range(R)]
    hgt = randomized(models.HGT([4, 2], 6, CLASSES, num_relations=R, num_heads=2))
    plain = randomized(models.HGT(6, 6, CLASSES, num_relations=R, num_types=2, num_heads=2))
    plain.load_state_dict({k: v for k, v in hgt.state_dict().items() if "input" not in k}, strict=False)
    plain.weight.copy_(torch.eye(6).expand(2, 6, 6))
    plain.bias.zero_()
    close(hgt(x, kg), plain(mapped(x, hgt.input), kg))
    layer = randomized(nn.HGTConv(6, R, num_heads=2, in_channels=[4, 2]))
    inner = randomized(nn.HGTConv(6, R, num_heads=2, num_types=2))
    inner.load_state_dict({k: v for k, v in layer.state_dict().items() if "input" not in k})
    close(layer(x, kg), inner(mapped(x, layer.input), kg))
    han = randomized(models.HAN([4, 2], 3, CLASSES, num_paths=R, num_heads=2, semantic_channels=5))
    plain = randomized(models.HAN(6, 3, CLASSES, num_paths=R, num_heads=2, semantic_channels=5))
    plain.load_state_dict({k: v for k, v in han.state_dict().items() if "input" not in k})
    close(han(x, graphs, kg.node_type), plain(mapped(x, han.conv.input), graphs))


def test_types_of_different_width_learn_and_say_what_is_wrong():
    kg, x = facts(), by_type(draw(N, IN, seed=50), KINDS, [4, 2])
    layer = nn.HGTConv(6, R, num_heads=2, in_channels=[4, 2]).double()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer(x, kg).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.input.parameters())
    layer.reset_parameters()
    assert not torch.equal(layer.input.maps[0].weight, before["input.maps.0.weight"])
    wrong = {
        "x: expected 2 tensors, one per node type, got Tensor": x[0],
        "x: expected 2 tensors, one per node type, got 1": x[:1],
        r"x\[1\]: expected shape \[N_1, 2\]": [x[0], x[0]],
        "x: expected 8 rows in all": [x[0], x[1][1:]],
        r"x: expected \[4, 4\] rows": [x[0][:3], torch.cat([x[1], x[1][:1]])],
        r"x\[0\]: expected torch.float64": [x[0].float(), x[1]],
    }
    for message, given in wrong.items():
        with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
            layer(given, kg)
    with pytest.raises(ArgumentError, match="node_type: expected the type of each node"):
        layer(x, random_knowledge_graph(N, 24, R))
    with pytest.raises(ArgumentError, match="num_types: expected 2"):
        nn.HGTConv(6, R, num_types=3, in_channels=[4, 2])
    with pytest.raises(ArgumentError, match="in_channels"):
        nn.HGTConv(6, R, in_channels=[])


def test_published_sizes():
    """AIFB has 8,285 entities, 45 relations, each both ways, 4 classes: 2 layers of width 16 without features."""
    with torch.device("meta"):
        model = models.RGCN(8285, 16, 4, num_relations=90)
    assert sum(p.numel() for p in model.parameters()) == 91 * 8285 * 16 + 16 + 91 * 16 * 4 + 4
    assert models.HGT(4, 8, 2, num_relations=1).dropout.p == 0.2
    assert models.HAN(4, 8, 2, num_paths=1).dropout.p == 0.6


# ---------------------------------------------------------------------- what types are for


def kinds_of_friends(seed, n=240):
    """Each person shows the class of its six friends, and the next class to its six rivals: joined, they say nothing.

    Half of the features of the friends and rivals show their class, the others are noise.
    """
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (n,), generator=g)
    of_class = [torch.where(y == c)[0] for c in range(3)]
    head, relation, tail = [], [], []
    for v in range(n):
        for r in range(3):  # friends, rivals, foes: of each class alike
            own = of_class[(int(y[v]) + r) % 3]
            tail += own[torch.randint(len(own), (4,), generator=g)].tolist()
            head += [v] * 4
            relation += [r] * 4
    kg = KnowledgeGraph.from_triples(
        head=head, relation=relation, tail=tail, num_nodes=n, num_relations=3, duplicates="drop"
    )
    x = F.one_hot(y, 3) * (torch.rand(n, 1, generator=g) < 0.5) + 0.3 * torch.randn(n, 3, generator=g)
    order = torch.randperm(n, generator=g)
    return kg, x, y, order[:80], order[80:120], order[120:]


def accuracy(model, x, structure, y, parts):
    first, val, test = parts

    def loss(logits):
        return F.cross_entropy(logits[first], y[first])

    def validate(logits):
        return train.accuracy(logits[val], y[val])

    options = {"epochs": 120, "lr": 0.01, "weight_decay": 5e-4, "seed": 0, "progress": False}
    train.fit(model, (x, structure), loss, validate=validate, **options)
    with torch.no_grad():
        return train.accuracy(model(x, structure)[test], y[test])


@pytest.mark.slow
def test_types_say_what_an_untyped_graph_cannot():
    """Means over three seeds; GCN over the same facts without their relations is held against them."""
    found = {}
    for seed in range(3):
        kg, x, y, *parts = kinds_of_friends(seed)
        paths = [kg.view(r) for r in range(3)]
        untyped = Graph.from_edge_index(
            torch.stack([kg.triples[:, 2], kg.triples[:, 0]]).unique(dim=1), num_nodes=len(x), directed=True
        )
        with train.seeded(seed):
            made = {
                "RGCN": (models.RGCN(3, 16, 3, num_relations=3), kg),
                "RGCN of 2 bases": (models.RGCN(3, 16, 3, num_relations=3, num_bases=2), kg),
                "HGT": (models.HGT(3, 16, 3, num_relations=3, num_heads=4), kg),
                "HAN": (models.HAN(3, 8, 3, num_paths=3, num_heads=2, dropout=0.2), paths),
                "GCN": (models.GCN(3, 16, 3), untyped),
            }
        for name, (model, structure) in made.items():
            found.setdefault(name, []).append(accuracy(model, x, structure, y, parts))
    mean = {name: sum(values) / 3 for name, values in found.items()}
    print(mean)
    assert all(mean[name] > mean["GCN"] + 0.1 for name in mean if name != "GCN"), mean


def test_relations_of_a_knowledge_graph_are_meta_paths_of_han():
    """Heads with a common tail under a relation are neighbors; every node is its own."""
    kg = facts()
    edges = [set() for _ in range(R)]
    triples = kg.triples.tolist()
    for h, r, t in triples:
        edges[r] |= {(h, other) for other, s, end in triples if (s, end) == (r, t)}
    paths = [
        Graph.from_edge_index(torch.tensor(sorted(pairs | {(v, v) for v in range(N)})).T, num_nodes=N, directed=True)
        for pairs in edges
    ]
    model = randomized(models.HAN(IN, 5, CLASSES, num_paths=R, num_heads=2, semantic_channels=4))
    x = draw(N, IN, seed=7)
    close(model(x, kg), model(x, paths))
