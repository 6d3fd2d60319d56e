"""Networks against their papers' matrices written out, their sizes and their training."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hgraph.data import items_of
from hgraph.errors import ArgumentError
from hgraph.models import GAT, GCN, HGNN, HGNNP, MLP, GraphClassifier, Stack
from hgraph.nn import HGNNPConv
from hgraph.testing import random_graph, random_hypergraph
from tests.models.cases import NODES

N, IN, CLASSES = 9, 4, 3


def randomized(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return model.double().eval()


def features():
    return torch.randn(N, IN, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


# ---------------------------------------------------------------------- parity


def test_gcn_parity():
    graph, x, model = random_graph(N, 25, seed=2, weighted=True), features(), randomized(GCN(IN, 5, CLASSES))
    a = graph.adj.with_weight(graph.adj.weight.double()).dense()
    a = a + torch.diag((a.diag() == 0).double())
    root = a.sum(1) ** -0.5
    a = root[:, None] * a * root
    hidden = (a @ model.conv1.linear(x) + model.conv1.bias).relu()
    close(model(x, graph), a @ model.conv2.linear(hidden) + model.conv2.bias)


def test_stack_parity():
    hg, x = random_hypergraph(N, 6, 40, seed=2, weighted=True), features()
    model = randomized(Stack(HGNNPConv, IN, 5, CLASSES, num_layers=3))
    hidden = model.conv2(model.conv1(x, hg).relu(), hg).relu()
    close(model(x, hg), model.conv3(hidden, hg))
    one = randomized(Stack("HGNNPConv", IN, 5, CLASSES, num_layers=1))
    close(one(x, hg), one.conv1(x, hg))


@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_graphclassifier_parity(reduce):
    graph, x = random_graph(N, 25, seed=2), features()
    model = randomized(GraphClassifier(Stack("GINConv", IN, 5, CLASSES, jump="cat"), reduce))
    nodes, batch = model.network(x, graph), torch.arange(N) % 3
    how = {"sum": lambda r: r.sum(0), "mean": lambda r: r.mean(0), "max": lambda r: r.amax(0)}[reduce]
    close(model(x, graph), how(nodes)[None])
    close(model(x, graph, items_of(batch, 3)), torch.stack([how(nodes[batch == b]) for b in range(3)]))


def test_stack_dropout_is_only_between_layers():
    hg, x = random_hypergraph(N, 6, 40, seed=2), features()
    model = randomized(Stack("HGNNPConv", IN, 5, CLASSES, dropout=1 - 1e-9)).train()
    close(model(x, hg), model.conv2(torch.zeros(N, 5, dtype=torch.float64), hg))


def test_stack_names_layers_that_do_not_exist():
    with pytest.raises(ArgumentError, match="Did you mean 'HGNNConv'"):
        Stack("HGNConv", 3, 4, 2)
    with pytest.raises(ArgumentError, match="num_layers: expected a whole number"):
        Stack("HGNNConv", 3, 4, 2, num_layers=0)


def test_gat_parity():
    graph, x, model = random_graph(N, 25, seed=2), features(), randomized(GAT(IN, 5, CLASSES, num_heads=4))
    mask = (graph.adj.dense() + torch.eye(N)) > 0

    def layer(x, conv):
        out = []
        for h, z in enumerate(conv.linear(x).chunk(conv.num_heads, -1)):
            score = F.leaky_relu((z @ conv.target_score[h])[:, None] + (z @ conv.source_score[h])[None], 0.2)
            out.append(score.masked_fill(~mask, -torch.inf).softmax(1) @ z)
        return (torch.cat(out, 1) if conv.concat else torch.stack(out).mean(0)) + conv.bias

    close(model(x, graph), layer(F.elu(layer(x, model.conv1)), model.conv2))


@pytest.mark.parametrize("weighted", [False, True])
def test_hgnn_parity(weighted):
    check_hypergraph_network(HGNN, weighted, lambda d_v: (d_v**-0.5, d_v**-0.5))


@pytest.mark.parametrize("weighted", [False, True])
def test_hgnnp_parity(weighted):
    check_hypergraph_network(HGNNP, weighted, lambda d_v: (1 / d_v, torch.ones_like(d_v)))


def check_hypergraph_network(kind, weighted, factors):
    hg, x, model = random_hypergraph(N, 6, 40, seed=2, weighted=weighted), features(), randomized(kind(IN, 5, CLASSES))
    h = hg.incidence().double()
    w = torch.ones(6).double() if hg.hyperedge_weight is None else hg.hyperedge_weight.double()
    front, back = factors(h @ w)
    smooth = front[:, None] * h * w / h.sum(0) @ h.T * back
    hidden = (smooth @ model.conv1.linear(x)).relu()
    close(model(x, hg), smooth @ model.conv2.linear(hidden))


def test_mlp_parity():
    x, model = features(), randomized(MLP(IN, 5, CLASSES)).train()
    model.dropout.p = 0.0
    hidden = (x @ model.hidden.weight.T + model.hidden.bias).relu()
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + model.norm.eps).sqrt()
    hidden = hidden * model.norm.weight + model.norm.bias
    close(model(x), hidden @ model.out.weight.T + model.out.bias)


def test_mlp_of_rows_of_length_one_and_its_folded_form():
    x, model = features(), randomized(MLP(IN, 5, CLASSES, norm=False, unit_rows=True)).eval()
    x[2] = 0
    rows = x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)
    hidden = (rows @ model.hidden.weight.T + model.hidden.bias).relu()
    close(model(x), hidden @ model.out.weight.T + model.out.bias)
    close(model.folded()(x), model(x))
    close(model.folded()(1e4 * x), model(x))


# ---------------------------------------------------------------------- sizes and defaults of the papers


def test_published_sizes():
    """Cora: GCN 1433-16-7, GAT 8 x 8 then one head of 7, LightHGNN's teacher with 32, its student with 128."""

    def count(model):
        return sum(p.numel() for p in model.parameters())

    assert count(GCN(1433, 16, 7)) == 1433 * 16 + 16 + 16 * 7 + 7
    assert count(GAT(1433, 8, 7)) == (1433 * 64 + 2 * 64 + 64) + (64 * 7 + 2 * 7 + 7)
    assert count(HGNN(1433, 32, 7)) == count(HGNNP(1433, 32, 7)) == 1433 * 32 + 32 + 32 * 7 + 7
    assert count(MLP(1433, 128, 7)) == 1433 * 128 + 128 + 2 * 128 + 128 * 7 + 7
    assert [m(4, 4, 2).dropout.p for m in (GCN, GAT, HGNN, HGNNP, MLP)] == [0.5, 0.6, 0.5, 0.5, 0.5]


# ---------------------------------------------------------------------- training


@pytest.mark.parametrize("case", NODES.values(), ids=NODES)
def test_dropout_only_in_training(case):
    model, (x, *structure) = case.module(dtype=torch.float64), case.inputs(N)
    assert torch.equal(model.eval()(x, *structure), model(x, *structure))
    torch.manual_seed(0)
    model.train()
    assert not torch.equal(model(x, *structure), model(x, *structure))


RATES = {"AllDeepSets": 0.01}  # at 0.05 its ReLUs die


@pytest.mark.parametrize("name", NODES)
def test_overfits_its_labels(name):
    """Twenty nodes, three classes, no dropout: a network whose gradients flow fits them."""
    torch.manual_seed(1)
    case = NODES[name]
    model, (x, *structure) = case.build().double(), case.inputs(20)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    y = torch.arange(len(x)) % CLASSES
    optimizer = torch.optim.Adam(model.parameters(), lr=RATES.get(name, 0.05))
    first = None
    for _ in range(80):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, *structure), y)
        first = first or loss.item()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.8 * first
