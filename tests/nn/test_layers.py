"""What every layer owes, whatever its equation: one test each, run over all public layers."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from hgraph.structure import Graph, Hypergraph, KnowledgeGraph
from hgraph.testing import assert_layout_independent

IN = 3


def features(n, *batch, dtype=torch.float64, seed=7):
    return torch.randn(*batch, n, IN, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def relabelled(structure, vertex, hyperedge=None):
    """The structure in which vertex v is called ``vertex[v]`` and hyperedge e ``hyperedge[e]``."""
    if isinstance(structure, Graph):
        pairs, weight = vertex[structure.edge_index], structure.adj.weight
        shuffle = torch.randperm(pairs.shape[1], generator=torch.Generator().manual_seed(0))
        weight = None if weight is None else weight[shuffle]
        return Graph.from_edge_index(
            pairs[:, shuffle], num_nodes=structure.num_nodes, directed=True, weight=weight, duplicates="keep"
        )
    if isinstance(structure, KnowledgeGraph):
        head, relation, tail = structure.triples.unbind(1)
        kg = KnowledgeGraph.from_triples(
            head=vertex[head], relation=relation, tail=vertex[tail], num_nodes=structure.num_nodes,
            num_relations=structure.num_relations, duplicates="keep",
        )  # fmt: skip
        return kg if structure.adj.weight is None else kg.with_weight(kg.adj.sort_edges(structure.adj.weight))
    v2e = structure.v2e

    def moved(weight, order):
        return None if weight is None else torch.empty_like(weight).index_copy(0, order, weight)

    return Hypergraph.from_coo(
        node=vertex[v2e.indices.long()],
        hyperedge=hyperedge[v2e.target.long()],
        weight=v2e.weight,
        num_nodes=structure.num_nodes,
        num_hyperedges=structure.num_hyperedges,
        hyperedge_weight=moved(structure.hyperedge_weight, hyperedge),
        node_weight=moved(structure.node_weight, vertex),
    )


# ---------------------------------------------------------------------- gradients


@pytest.mark.parametrize("weighted", [False, True])
def test_gradients(case, make, weighted):
    layer, structure = make(case).double(), case.structure(5, seed=1, weighted=weighted)
    x = features(5).requires_grad_()
    names, values = zip(*layer.named_parameters(), strict=True)

    def call(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, structure))

    assert torch.autograd.gradcheck(call, (x, *values))
    assert torch.autograd.gradgradcheck(call, (x, *values))


@pytest.mark.parametrize("weighted", [False, True])
def test_layouts_decide_nothing(case, make, weighted):
    layer, structure = make(case).double(), case.structure(6, seed=1, weighted=weighted)
    names, values = zip(*layer.named_parameters(), strict=True)

    def call(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, structure))

    assert_layout_independent(call, features(6, 2), *values, tolerance=1e-11)


def test_every_parameter_gets_a_gradient(case, make):
    layer = make(case)
    layer(features(9).float(), case.structure(9)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_gradients_to_structure_weights(case, make):
    layer, structure = make(case).double(), case.structure(5, seed=1, weighted=True)
    held = "v2e" if isinstance(structure, Hypergraph) else "adj"
    adj = getattr(structure, held)

    def call(weight):
        return layer(features(5), dataclasses.replace(structure, **{held: adj.with_weight(weight)}))

    weight = adj.weight.double().requires_grad_()
    if call(weight).grad_fn is not None and type(layer).__name__ != "GATConv":  # which does not read weights
        assert torch.autograd.gradcheck(call, (weight,))
        assert torch.autograd.grad(call(weight).square().sum(), weight)[0].abs().sum() > 0


# ---------------------------------------------------------------------- state


def test_state_dict_round_trip(case, make, tmp_path):
    one, other, structure, x = make(case, 0), make(case, 1), case.structure(6), features(6).float()
    assert not torch.equal(one(x, structure), other(x, structure))
    torch.save(one.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(one(x, structure), other(x, structure))
    assert torch.equal(one(x, structure), copy.deepcopy(one)(x, structure))
    assert set(one.state_dict()) == {name for name, _ in one.named_parameters()}  # nothing about a structure is kept


def test_reset_parameters_draws_anew(case):
    torch.manual_seed(0)
    layer = case.build()
    before = [p.clone() for p in layer.parameters() if p.dim() > 1]
    layer.reset_parameters()
    assert before
    assert not any(
        torch.equal(a, b) for a, b in zip(before, [p for p in layer.parameters() if p.dim() > 1], strict=True)
    )


# ---------------------------------------------------------------------- symmetry, batches, sizes


@pytest.mark.parametrize("weighted", [False, True])
def test_permutation_equivariance(case, make, weighted):
    layer, x = make(case).double(), features(8)
    structure = case.structure(8, seed=2, weighted=weighted)
    generator = torch.Generator().manual_seed(3)
    vertex, hyperedge = torch.randperm(8, generator=generator), None
    if isinstance(structure, Hypergraph):
        hyperedge = torch.randperm(structure.num_hyperedges, generator=generator)
    moved_x = torch.empty_like(x).index_copy(0, vertex, x)
    moved = layer(moved_x, relabelled(structure, vertex, hyperedge))
    torch.testing.assert_close(moved[vertex], layer(x, structure), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [(2,), (3, 2), (1,), (0,)])
def test_batch_dimensions(case, make, batch):
    layer, structure, x = make(case).double(), case.structure(6, weighted=True), features(6, *batch)
    out = layer(x, structure)
    assert out.shape[:-1] == x.shape[:-1]
    for at in range(x.shape[0]):
        torch.testing.assert_close(out[at], layer(x[at], structure), rtol=1e-12, atol=1e-12)


def test_no_vertices(case, make):
    layer = make(case)
    empty = torch.empty(0, dtype=torch.long)
    graph = Graph.from_edge_index(torch.stack([empty, empty]), num_nodes=0, directed=True)
    hypergraph = Hypergraph.from_lists([[]], num_nodes=0)
    none = KnowledgeGraph.from_triples(head=[], relation=[], tail=[], num_nodes=0, num_relations=3)
    structure = {Graph: graph, Hypergraph: hypergraph, KnowledgeGraph: none}[type(case.structure(3))]
    x = torch.empty(0, IN, requires_grad=True)
    out = layer(x, structure)
    out.sum().backward()
    assert out.shape == (0, layer(features(3).float(), case.structure(3)).shape[1])


def test_same_inputs_same_bits(case, make):
    layer, structure = make(case), case.structure(40, weighted=True)
    runs = []
    for _ in range(2):
        x = features(40).float().requires_grad_()
        out = layer(x, structure)
        runs.append((out, *torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


# ---------------------------------------------------------------------- precision


@pytest.mark.parametrize("weighted", [False, True])
def test_float64_is_not_spoilt_by_float32_weights(case, make, weighted):
    """Degrees and roots must be taken in the precision of x: by way of float32 they would cost seven digits."""
    layer, x = make(case).double(), features(7)
    structure = case.structure(7, seed=4, weighted=weighted)
    layer.float()(x.float(), structure)  # what is remembered for float32 must not serve float64
    layer = make(case).double()
    wide = structure._map(lambda t: t.double() if t.is_floating_point() else t)
    torch.set_default_dtype(torch.float64)
    try:
        expected = layer(x, wide)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(layer(x, structure), expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weighted", [False, True])
def test_half_precision(case, make, dtype, weighted):
    """Within a few roundings of the float64 result of the same rounded inputs; same dtype out; gradients finite."""
    layer, structure = make(case).to(dtype), case.structure(30, seed=1, weighted=weighted)
    x = features(30).to(dtype).requires_grad_()
    out = layer(x, structure)
    assert out.dtype == dtype
    exact = copy.deepcopy(layer).double()(x.detach().double(), structure)
    size = exact.abs().max()
    assert (out.double() - exact).abs().max() <= 8 * torch.finfo(dtype).eps * size
    grads = torch.autograd.grad(out.float().square().sum(), [x, *layer.parameters()])
    assert all(g.isfinite().all() and g.dtype == dtype for g in grads)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(case, make, dtype):
    layer, structure, x = make(case), case.structure(30, seed=1, weighted=True), features(30).float()
    x.requires_grad_()
    exact = layer(x, structure)
    with torch.autocast("cpu", dtype):
        out = layer(x, structure)
    assert out.dtype == dtype
    assert (out - exact).abs().max() <= 16 * torch.finfo(dtype).eps * exact.abs().max()
    out.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in layer.parameters())
    assert torch.equal(layer(x, structure), exact)  # nothing rounded is remembered


# ---------------------------------------------------------------------- what is remembered beside a structure


def test_another_structure_of_the_same_size_is_not_confused(case, make):
    layer, x = make(case), features(8).float()
    structures = [case.structure(8, seed=s, weighted=True) for s in (1, 2)]
    first = [layer(x, s) for s in structures]
    assert not torch.equal(*first)
    fresh = [layer(x, s._map(torch.clone)) for s in structures]
    again = [layer(x, s) for s in reversed(structures)]
    assert all(torch.equal(a, b) for a, b in zip(first, fresh, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))


def test_many_structures_that_come_and_go(case, make):
    """An address is used again once a structure has died; what was remembered must have died with it."""
    layer, x = make(case), features(8).float()
    kept = [layer(x, case.structure(8, seed=s, weighted=True)) for s in range(20)]
    alive = [case.structure(8, seed=s, weighted=True) for s in range(20)]
    assert all(torch.equal(a, layer(x, s)) for a, s in zip(kept, alive, strict=True))


def test_weights_changed_in_place_are_seen(case, make):
    layer, x, structure = make(case), features(8).float(), case.structure(8, seed=1, weighted=True)
    layer(x, structure)
    weights = [t for t in structure.tensors() if t.is_floating_point()]
    assert weights
    for t in weights:
        t.mul_(torch.linspace(0.5, 2.0, len(t)))
    assert torch.equal(layer(x, structure), layer(x, structure._map(torch.clone)))


def test_inference_mode_first_then_training(case, make):
    layer, x, structure = make(case), features(8).float(), case.structure(8, weighted=True)
    with torch.inference_mode():
        before = layer(x, structure)
    out = layer(x.requires_grad_(), structure)
    assert torch.equal(out, before)
    out.sum().backward()


# ---------------------------------------------------------------------- compiler


def test_compiles_once_for_all_sizes(case, make):
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    layer = make(case)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    frames = []
    for n in (9, 13, 21):
        structure, x = case.structure(n, seed=n, weighted=True), features(n).float().requires_grad_()
        out, exact = compiled(x, structure), layer(x, structure)
        torch.testing.assert_close(out, exact)
        grads = [torch.autograd.grad(y.square().sum(), [x, *layer.parameters()]) for y in (out, exact)]
        for one, other in zip(*grads, strict=True):  # where terms cancel, the rounding of the largest stays
            rounding = 8 * torch.finfo(x.dtype).eps * float(other.abs().max()) if other.numel() else 0
            torch.testing.assert_close(one, other, rtol=1.3e-6, atol=rounding)
        frames.append(counter.frame_count)
    assert frames == frames[:1] * 3
