"""Routing attention (Roy et al., TACL 2021): clusters of content, their edges, and leaks from the future."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from hgraph import patterns
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn import RoutingAttention, SelfAttention, aux_losses, record_attention
from hgraph.nn.attention import AttentionKind, KVState, OnlineKMeans, require_kind, supported_kinds
from hgraph.nn.attention.kmeans import on_sphere
from hgraph.nn.attention.routing.routes import by_claim, by_nearest

D, N = 8, 23


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer_of(heads=2, clusters=3, size=5, seed=0, training=False, **options):
    torch.manual_seed(seed)
    layer = RoutingAttention(D, heads, num_clusters=clusters, cluster_size=size, **options).double().train(training)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return layer


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------- the paper's sums, one by one


def normalised(x):
    mean = sum(float(v) for v in x) / len(x)
    deviation = math.sqrt(sum((float(v) - mean) ** 2 for v in x) / len(x) + 1e-5)
    return torch.tensor([(float(v) - mean) / deviation for v in x], dtype=torch.float64)


def nearness(layer, x, h):
    """[C, N]: products with centroids of length sqrt(D)."""
    means = layer.router.centroids[h]
    return torch.stack([m / m.norm() * math.sqrt(len(m)) for m in means]) @ x.T


def best(score, w, present):
    """Positions, ascending, of the w largest of those present."""
    order = sorted((t for t in range(len(score)) if present[t]), key=lambda t: -float(score[t]))
    return sorted(order[:w])


def heard_by_cluster(layer, near_q, near_k, t, present):
    """The tokens that token t attends to, by cluster."""
    w = layer.cluster_size
    skips_itself = layer.causal and layer.shared_qk and not layer.official
    lists = []
    for c in range(len(near_q)):
        if layer.assignment == "argmax":
            if int(near_q[:, t].argmax()) != c or not present[t]:
                continue
            keys = [s for s in range(t + 1) if present[s] and int(near_k[:, s].argmax()) == c]
            if skips_itself and len(keys) > 1:
                keys = keys[:-1]
            keys = keys[-w:]
        else:
            members, keys = best(near_q[c], w, present), best(near_k[c], w, present)
            if t not in members:
                continue
            rank = members.index(t)
            if layer.official and layer.causal:
                keys = keys[: rank + 1]
            elif layer.causal:
                keys = [s for s in keys if s <= t]
            if skips_itself and len(keys) > 1:
                keys = [s for s in keys if s != t]
        lists.append(keys)
    return lists


def loops(layer, x, present=None):
    """One example, token by token; also the attention probabilities [H, N, N]."""
    n, d, local = len(x), layer.head_dim, layer.local_heads
    present = [True] * n if present is None else present.tolist()
    q, v = layer.query(x), layer.value(x)
    k = None if layer.key is None else layer.key(x)
    out, probs = torch.zeros(n, D, dtype=torch.float64), torch.zeros(layer.num_heads, n, n, dtype=torch.float64)
    for h in range(layer.num_heads):
        own = slice(h * d, h * d + d)
        query = q[:, own] if h < local else torch.stack([normalised(a) for a in q[:, own]])
        if h < local:
            key = k[:, own]
        else:
            key = query if layer.shared_qk else torch.stack([normalised(a) for a in k[:, own]])
            scores = [nearness(layer, a, h - local) for a in (query, key)]
        for t in range(n):
            if h < local:
                block = t // layer.local_window
                low, high = (
                    (block - 1) * layer.local_window,
                    t + 1 if layer.causal else (block + 2) * layer.local_window,
                )
                lists = [[s for s in range(max(low, 0), min(high, n)) if present[s]]] if present[t] else []
            else:
                lists = heard_by_cluster(layer, *scores, t, present)
            for keys in lists:
                if keys:
                    score = torch.stack([query[t] @ key[s] * layer.scale for s in keys]).exp()
                    count = len(lists) + (0.01 if layer.official and h >= local else 0.0)
                    for s, prob in zip(keys, score / score.sum(), strict=True):
                        probs[h, t, s] += prob.detach() / count
                        out[t, own] += prob / count * v[s, own]
    return out @ layer.out.weight.T, probs


KINDS = {
    "argmax, shared": {},
    "argmax, separate": {"shared_qk": False},
    "argmax, local": {"heads": 4, "local_heads": 2, "local_window": 4},
    "argmax, all kept": {"size": 50},
    "argmax, many clusters": {"clusters": 30, "size": 2},
    "topk, causal": {"assignment": "topk"},
    "topk, causal, separate": {"assignment": "topk", "shared_qk": False},
    "topk": {"causal": False},
    "topk, shared": {"causal": False, "shared_qk": True},
    "topk, local": {"causal": False, "heads": 4, "local_heads": 1, "local_window": 3},
    "topk, wider than all": {"causal": False, "size": 50},
    "official": {"variant": "official"},
    "official, separate": {"variant": "official", "shared_qk": False},
    "official, not causal": {"variant": "official", "causal": False},
}  # fmt: skip


@pytest.mark.parametrize("masked", [False, True], ids=["", "padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_routingattention_parity(kind, masked):
    layer, x = layer_of(**KINDS[kind]), numbers(2, N, D)
    mask = torch.ones(2, N, dtype=torch.bool)
    if masked:
        mask[0, 15:] = mask[1, 3:5] = False
    with torch.no_grad(), record_attention(layer) as records:
        y = layer(x, mask) if masked else layer(x)
        for b in range(2):
            expected, probs = loops(layer, x[b], mask[b])
            close(y[b], expected)
            for h in range(layer.num_heads):
                adj, prob = records[""][0].weights(example=b, head=h)
                dense = adj.with_weight(prob).dense()
                close(dense, probs[h])
                if not layer.official and kind != "topk, causal, separate":
                    attended = dense.sum(1)  # of one softmax, or of several averaged, of which none is empty
                    close(attended, (attended > 0).double())


# ---------------------------------------------------------------------- limit cases and counts


@pytest.mark.parametrize("assignment", ["argmax", "topk"])
def test_one_cluster_of_all_tokens_is_causal_attention(assignment):
    """Over normalized q = k, without attention to oneself except for the first token."""
    layer, x = layer_of(clusters=1, size=N, assignment=assignment), numbers(2, N, D)
    q = on_sphere(layer.query(x).unflatten(-1, (2, 4)))
    v = layer.value(x).unflatten(-1, (2, 4))
    mask = torch.ones(N, N).tril(-1).bool()
    mask[0, 0] = True
    score = torch.einsum("bthd,bshd->bhts", q, q) * layer.scale
    prob = score.masked_fill(~mask, -torch.inf).softmax(-1)
    close(layer(x), layer.out(torch.einsum("bhts,bshd->bthd", prob, v).flatten(2)))


def test_the_official_form_with_one_cluster_lacks_one_percent():
    layer, x = layer_of(clusters=1, size=N, variant="official"), numbers(1, N, D)
    q = on_sphere(layer.query(x).unflatten(-1, (2, 4))).transpose(1, 2)
    v = layer.value(x).unflatten(-1, (2, 4)).transpose(1, 2)
    dense = torch.nn.functional.scaled_dot_product_attention(q, q, v, is_causal=True).transpose(1, 2)
    close(layer(x), layer.out(dense.flatten(2)) / 1.01)


def test_overlapping_clusters_are_a_dense_mask_each_and_their_mean():
    """Attention per cluster under N x N masks, averaged."""
    layer, x = layer_of(heads=1, clusters=4, size=9, causal=False, shared_qk=True), numbers(1, N, D)
    q, v = on_sphere(layer.query(x)), layer.value(x)
    members = patterns.topk_members(layer.router.scores(q.unsqueeze(2)), 9)[0, 0]
    total, count = torch.zeros_like(x), torch.zeros(N, 1, dtype=torch.float64)
    for c in range(4):
        inside = torch.zeros(N, dtype=torch.bool)
        inside[members[c]] = True
        score = (q @ q.mT * layer.scale).masked_fill(~(inside & inside.unsqueeze(1)), -torch.inf)
        total += score.softmax(-1).nan_to_num(0.0) @ v
        count += inside.unsqueeze(1)
    assert count.max() > 1
    assert count.min() == 0
    close(layer(x), layer.out(total / count.clamp(min=1)))


def pairs_of(routes):
    """The edges of one head between tokens, (cluster by cluster) as often as they occur."""
    adj = routes.tiles().adjacency()
    return routes.query[0, 0][adj.target.long()], routes.key[0, 0][adj.indices.long()]


def test_edges_and_exponent():
    """k w^2 pairs with "topk", at most n w with "argmax"; n^1.5 if k = w = sqrt(n)."""
    edges, near_edges = [], []
    for n in (256, 1024, 4096):
        w = int(n**0.5)
        scores = torch.randn(1, 1, w, n, generator=torch.Generator().manual_seed(n))
        how = {"block": min(w, 64), "itself": True, "by_rank": False, "shared": True}
        target, source = pairs_of(by_claim(scores, scores, w, causal=False, **how))
        assert len(target) == w**3
        assert (source >= 0).all()
        assert scores.numel() == w * n
        edges.append(len(target))
        half, _ = pairs_of(by_claim(scores, scores, w, causal=True, **how))
        assert len(half) == w * (w * (w + 1) // 2)
        near = scores.argmax(2)
        target, source = pairs_of(by_nearest(near, near, w, w, block=min(w, 64), itself=True, shared=True))
        size = torch.bincount(near.flatten(), minlength=w)
        assert len(target) == sum(min(i + 1, w) for s in size.tolist() for i in range(s))
        assert (target >= source).all()
        assert (near.flatten()[target] == near.flatten()[source]).all()
        near_edges.append(len(target))
    assert [b / a for a, b in itertools.pairwise(edges)] == [8.0, 8.0]  # 4 times the tokens: 4^1.5
    exponent = math.log(near_edges[-1] / near_edges[0]) / math.log(16)
    assert 1.45 < exponent < 1.55


def test_tokens_in_no_cluster_get_zero():
    """A token in no cluster gets exactly zero from routing heads."""
    layer, x = layer_of(heads=1, clusters=2, size=3, causal=False), numbers(1, N, D).requires_grad_()
    layer.out = torch.nn.Identity()
    y = layer(x)
    silent = (y[0] == 0).all(-1)
    assert N - 6 <= int(silent.sum()) < N
    y.square().sum().backward()
    assert x.grad.isfinite().all()
    strict = layer_of(heads=1, clusters=9, size=3, shared_qk=False)
    strict.out = torch.nn.Identity()
    assert (strict(x)[0] == 0).all(-1).any()  # a query whose cluster has no key yet
    strict(x).square().sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"causal": False}, {"local_heads": 1}])
def test_few_tokens(options, n):
    layer, x = layer_of(**options), numbers(2, n, D)
    assert layer(x).shape == (2, n, D)
    assert layer(x[:0]).shape == (0, n, D)
    assert layer(x, torch.zeros(2, n, dtype=torch.bool)).abs().sum() == 0
    with torch.no_grad():
        close(layer(x)[0], loops(layer, x[0])[0] if n else x[0])


def test_one_example_needs_no_batch_and_many_dimensions_are_one():
    layer, x = layer_of(heads=2, local_heads=1, local_window=4), numbers(2, 3, N, D)
    close(layer(x)[1, 2], layer(x[1, 2]))
    mask = torch.ones(3, N, dtype=torch.bool)
    mask[1, 9:] = False
    close(layer(x, mask)[1, 1], layer(x[1, 1], mask[1]))


def test_head_mask_disables_heads():
    layer, x = layer_of(heads=4, local_heads=2, local_window=4), numbers(2, N, D)
    mask = torch.tensor([[True, False, False, True]])
    half = copy.deepcopy(layer)
    with torch.no_grad():
        half.out.weight.unflatten(1, (4, 2))[:, [1, 2]] = 0
    with record_attention(layer) as records:
        close(layer(x, head_mask=mask), half(x))
    assert [float(records[""][0].weights(head=h)[1].sum()) > 0 for h in range(4)] == [True, False, False, True]


# ---------------------------------------------------------------------- causality


CAUSAL = {
    "shared": {},
    "separate": {"shared_qk": False},
    "local": {"local_heads": 1, "local_window": 4},
    "wide": {"size": 100, "clusters": 2},
    "tiles of 64": {"size": 64, "clusters": 2},
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", CAUSAL)
def test_causality_bit_for_bit(kind, dtype):
    """With changed values (same clusters) and with tokens in other clusters."""
    layer, n = layer_of(**CAUSAL[kind]).to(dtype), 200
    x = numbers(1, n, D).to(dtype)
    before = layer(x)
    moved = 0
    for t in (0, 1, 7, 63, 64, 150, n - 1):
        for size in (1e-3, 3.0):
            changed = x.clone()
            changed[:, t] += size * numbers(D, seed=t).to(dtype)
            after = layer(changed)
            assert torch.equal(before[:, :t], after[:, :t])
            assert (before[:, t:] != after[:, t:]).any()
            own = [layer.router.nearest(layer.project(v)[0][:, :, layer.local_heads :]) for v in (x, changed)]
            moved += bool((own[0] != own[1]).any())
        cut = layer(x[:, : t + 1])
        close(cut, before[:, : t + 1], 1e-12 if dtype == torch.float64 else 1e-4)
    assert moved


def outputs_that_change_before(layer, t, n=60):
    x = numbers(1, n, D)
    before = layer(x)
    changed = 0
    for seed in range(20):
        y = x.clone()
        y[:, t] += 3 * numbers(D, seed=seed)
        changed += bool((layer(y)[:, :t] - before[:, :t]).abs().max() > 1e-6)
    return changed


def test_topk_leaks_from_the_future_but_not_the_default():
    """The first fault: a later token replaces an earlier one in a cluster."""
    assert outputs_that_change_before(layer_of(), 40) == 0
    assert outputs_that_change_before(layer_of(assignment="topk"), 40) > 0
    assert outputs_that_change_before(layer_of(variant="official"), 40) > 0


def test_identity_of_tensors_does_not_matter():
    near = numbers(1, 1, 3, 40, seed=1).argmax(2)
    for own, other in ((near, near), (near, near.clone())):
        routes = by_nearest(own, other, 3, 6, block=8, itself=False, shared=True)
        assert routes.aligned
        assert torch.equal(routes.query, routes.key)
        assert not by_nearest(own, other, 3, 6, block=8, itself=False, shared=False).aligned
    scores = numbers(1, 1, 3, 40, seed=1)
    how = {"block": 8, "causal": True, "itself": True, "by_rank": False}
    assert [by_claim(scores, scores, 6, shared=s, **how).aligned for s in (True, False)] == [True, False]


def test_ranks_are_not_positions():
    """The second fault: with separate queries and keys, rank r of the keys may be after rank r of the queries.

    The clusters are held fixed, so nothing else can leak.
    """
    q, k = (numbers(1, 1, 3, 40, seed=s) for s in (1, 2))
    how = {"block": 8, "causal": True, "itself": True, "shared": False}
    target, source = pairs_of(by_claim(q, k, 6, by_rank=True, **how))
    assert (source > target).any()
    target, source = pairs_of(by_claim(q, k, 6, by_rank=False, **how))
    assert (source <= target).all()
    near = q.argmax(2), k.argmax(2)
    target, source = pairs_of(by_nearest(*near, 3, 6, block=8, itself=True, shared=False))
    assert (source <= target).all()
    official, ours = layer_of(variant="official", shared_qk=False), layer_of(shared_qk=False)
    with record_attention(torch.nn.ModuleDict({"official": official, "ours": ours})) as records:
        official(numbers(1, N, D)), ours(numbers(1, N, D))
    edges = {name: [calls[0].weights(head=h)[0] for h in range(2)] for name, calls in records.items()}
    assert any((adj.indices > adj.target).any() for adj in edges["official"])
    assert not any((adj.indices > adj.target).any() for adj in edges["ours"])


@pytest.mark.parametrize("kind", CAUSAL)
def test_decoding_equals_the_full_forward(kind):
    layer, x = layer_of(**CAUSAL[kind]), numbers(2, 40, D)
    state = KVState(40)
    parts = [layer(x[:, a:b], state=state) for a, b in ((0, 9), (9, 10), (10, 11), (11, 39), (39, 40))]
    close(torch.cat(parts, 1), layer(x))
    state = KVState(40)
    close(torch.cat([layer(x[0, t : t + 1], state=state) for t in range(40)]), layer(x[0]))


@pytest.mark.parametrize("kind", CAUSAL)
def test_records_of_decoding_are_rows_of_the_full_record(kind):
    layer, x, state = layer_of(**CAUSAL[kind]), numbers(2, 30, D), KVState(30)
    with record_attention(torch.nn.ModuleDict({"layer": layer})) as whole:
        layer(x)
    layer(x[:, :28], state=state)
    with record_attention(layer) as steps:
        layer(x[:, 28:], state=state)
    for h in range(layer.num_heads):
        (adj, prob), (exact, probs) = (r[0].weights(example=1, head=h) for r in (steps[""], whole["layer"]))
        close(adj.with_weight(prob).dense(), exact.with_weight(probs).dense()[28:])


# ---------------------------------------------------------------------- centroids


def test_onlinekmeans_update_parity():
    torch.manual_seed(0)
    means = OnlineKMeans(2, 3, 4, decay=0.8).double()
    with torch.no_grad():
        means.total.copy_(numbers(2, 3, 4, seed=1))
        means.size.copy_(numbers(2, 3, seed=2).abs())
    before = {name: t.clone() for name, t in means.named_buffers()}
    x = on_sphere(numbers(2, 9, 2, 4))
    near = means.nearest(x)
    near[0, :, 5:] = -1  # padding
    near[near == 2] = 1  # the third has no tokens
    means.update(x, near)
    for h in range(2):
        size, total = before["size"][h].clone(), before["total"][h].clone()
        for c in range(3):
            own = [x[b, t, h] for b in range(2) for t in range(9) if int(near[b, h, t]) == c]
            size[c] = 0.8 * size[c] + 0.2 * len(own)
            total[c] = 0.8 * total[c] + 0.2 * sum(own, torch.zeros(4, dtype=torch.float64))
        close(means.size[h], size)
        close(means.total[h], total)
        for c in range(2):
            close(means.centroids[h, c], total[c] / ((size[c] + 1e-5) / (size.sum() + 3e-5) * size.sum()))
        assert torch.equal(means.centroids[h, 2], before["centroids"][h, 2])
    nearest = [[[max(range(3), key=lambda c: float(x[b, t, h] @ means.centroids[h, c] / means.centroids[h, c].norm()))
                 for t in range(9)] for h in range(2)] for b in range(2)]  # fmt: skip
    assert means.nearest(x).tolist() == nearest


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_centroids_find_blobs(seed):
    """Eight blobs on the sphere, 200 steps with decay 0.9, initialized with tokens far from each other."""
    torch.manual_seed(seed + 100)
    middle, means = on_sphere(numbers(8, 16, seed=seed)), OnlineKMeans(1, 8, 16, decay=0.9).double()

    def drawn():
        label = torch.randint(8, (1, 256))
        point = on_sphere(middle[label] + 0.4 * torch.randn(1, 256, 16).double()).unsqueeze(2)
        return label[0], point, means.nearest(point)

    means.start_from(drawn()[1])
    distances = []
    for _ in range(200):
        _, point, near = drawn()
        distances.append(float((point - means.chosen(near)).square().mean()))
        means.update(point, near)
    label, _, near = drawn()
    pure = sum(int(torch.bincount(label[near[0, 0] == c], minlength=8).max()) for c in near.unique())
    assert pure / 256 > 0.95
    assert sum(distances[-10:]) / 10 < 0.9 * distances[0]


def test_centroids_start_far_from_each_other():
    layer, x = layer_of(clusters=5, shared_qk=False), numbers(2, N, D)
    layer.start_from(x)
    for h in range(2):
        q, k = (on_sphere(f(x).unflatten(-1, (2, 4)))[:, :, h].flatten(0, 1) for f in (layer.query, layer.key))
        points, chosen = torch.cat([q, k]), [0]
        alike = torch.nn.functional.cosine_similarity(points.unsqueeze(1), points, dim=-1)
        for _ in range(4):
            chosen.append(min(range(len(points)), key=lambda i: float(alike[i, chosen].detach().max())))
        close(layer.router.centroids[h], points[chosen].detach())
    with pytest.raises(ArgumentError, match="x: expected at least 5 tokens, one per centroid, got 4"):
        layer.start_from(x[0, :2])


def test_sums_are_those_of_all_processes(monkeypatch):
    """Simulates a second process with the same tokens."""
    x, means = on_sphere(numbers(1, 9, 2, 4)), OnlineKMeans(2, 3, 4, decay=0.8).double()
    near, twice = means.nearest(x), copy.deepcopy(means)
    twice.update(torch.cat([x, x]), torch.cat([near, near]))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda t: t.mul_(2))
    means.update(x, near)
    close(means.centroids, twice.centroids)
    close(means.size, twice.size)


def test_centroids_are_updated_once_per_training_step():
    layer, x = layer_of(decay=0.5), numbers(2, N, D)
    before = layer.router.centroids.clone()
    layer(x)
    assert torch.equal(layer.router.centroids, before)
    assert layer.aux == {}
    plain, again = layer.train(), copy.deepcopy(layer)
    losses = []
    for call in (plain, lambda y: checkpoint(again, y, use_reentrant=False)):
        y = x.clone().requires_grad_()
        call(y).square().sum().backward()
        losses.append(y.grad)
    assert not torch.equal(plain.router.centroids, before)
    assert torch.equal(plain.router.centroids, again.router.centroids)
    assert torch.equal(plain.router.size, again.router.size)
    assert torch.equal(*losses)
    assert not any(name.startswith("router") for name, _ in layer.named_parameters())
    assert all(t.grad is None for t in layer.router.buffers())


def test_a_recomputed_forward_in_evaluation_uses_the_same_centroids():
    """An evaluation after an update must not use the centroids before it."""
    layer, x, grads = layer_of(decay=0.3, training=True), numbers(2, 40, D), []
    layer(x)
    layer.eval()
    for call in (layer, lambda y: checkpoint(layer, y, use_reentrant=False)):
        y = x.clone().requires_grad_()
        call(y).square().sum().backward()
        grads.append(y.grad)
    assert torch.equal(*grads)


@pytest.mark.parametrize("options", [{}, {"causal": False}, {"local_heads": 1, "local_window": 4}])
def test_padding_may_contain_anything(options):
    layer, x, mask = layer_of(**options), numbers(2, N, D), torch.ones(2, N, dtype=torch.bool)
    mask[0, 15:] = mask[1, 3:5] = False
    assert torch.equal(layer(torch.where(mask.unsqueeze(-1), x, math.nan), mask), layer(x, mask))


@pytest.mark.parametrize("shared", [True, False])
def test_commitment_is_the_mean_square_to_the_own_centroid(shared):
    layer, x = layer_of(training=True, shared_qk=shared, commitment=0.5), numbers(2, N, D)
    means = layer.router.centroids.clone()
    mask = torch.ones(2, N, dtype=torch.bool)
    mask[0, 15:] = False
    layer(x, mask)
    expected = 0.0
    for f in (layer.query, layer.query if shared else layer.key):
        points, total, count = f(x).detach(), 0.0, 0
        for b, t in mask.nonzero().tolist():
            for h in range(2):
                point = normalised(points[b, t, h * 4 : h * 4 + 4])
                own = means[h, int((torch.nn.functional.normalize(means[h]) @ point).argmax())]
                total, count = total + float((point - own).square().sum()), count + 4
        expected += 0.5 * total / count
    assert abs(float(layer.aux["commitment"].detach()) - expected) < 1e-12
    assert aux_losses(layer) == layer.aux["commitment"]
    grad = torch.autograd.grad(aux_losses(layer), layer.query.weight)[0]
    assert grad.abs().sum() > 0


def test_same_cluster_means_a_large_product():
    """The bound: q and k of length one within eps of mu have q . k >= 1 - 2 eps^2."""
    generator = torch.Generator().manual_seed(0)
    mu = torch.nn.functional.normalize(torch.randn(500, 8, generator=generator, dtype=torch.float64), dim=1)
    step = torch.randn(2, 500, 8, generator=generator, dtype=torch.float64) * 0.3
    q, k = torch.nn.functional.normalize(mu + step, dim=-1)
    eps = torch.maximum((q - mu).norm(dim=1), (k - mu).norm(dim=1))
    assert ((q * k).sum(1) >= 1 - 2 * eps**2 - 1e-12).all()
    assert ((q * k).sum(1) < 1 - eps**2 / 2).any()


def test_gradients_with_fixed_clusters():
    """Gradcheck by all inputs; small steps do not change the clusters."""
    for options in ({}, {"shared_qk": False}, {"causal": False}):
        layer, x = layer_of(**options), numbers(1, 9, D).requires_grad_()
        assert torch.autograd.gradcheck(layer, (x,), fast_mode=True)


def test_compiles_without_a_break():
    layer = layer_of(training=True, local_heads=1, local_window=4).float()
    again, x = copy.deepcopy(layer), numbers(2, 20, D).float().requires_grad_()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    grads = []
    for call in (compiled, again):
        out = call(x)
        grads.append((out, *torch.autograd.grad(out.square().sum(), x)))
    torch.testing.assert_close(*grads)
    torch.testing.assert_close(layer.router.state_dict(), again.router.state_dict())
    assert layer.aux["commitment"] == again.aux["commitment"]


def test_no_tensor_of_all_pairs():
    """16,384 tokens, 128 clusters of 128: the largest tensor is a few times the tokens' features."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        bytes = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for t in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(t, torch.Tensor):
                    self.bytes = max(self.bytes, t.numel() * t.element_size())
            return out

    layer, x = RoutingAttention(32, 1, num_clusters=128, cluster_size=128), torch.randn(1, 16384, 32)
    with Largest() as largest:
        layer(x).square().sum().backward()
    assert largest.bytes <= 8 * x.numel() * 4


def test_kinds_are_declared():
    assert supported_kinds(RoutingAttention) == {AttentionKind.NONCAUSAL_SELF, AttentionKind.CAUSAL_SELF}
    with pytest.raises(ArgumentError, match="kind: expected causal self or noncausal self for RoutingAttention"):
        require_kind(RoutingAttention, AttentionKind.CAUSAL_CROSS)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: layer_of(heads=3), ArgumentError, "num_heads: expected a divisor of the width 8"),
        (lambda: layer_of(local_heads=2), ArgumentError, "local_heads: expected 0 .. 1"),
        (lambda: layer_of(variant="other"), ArgumentError, "variant: expected 'paper' or 'official'"),
        (lambda: layer_of(causal=False, assignment="argmax"), ArgumentError, "assignment: expected 'topk', except"),
        (lambda: layer_of(assignment="other"), ArgumentError, "assignment: expected 'argmax' or 'topk'"),
        (lambda: layer_of()(numbers(2, 5, 7)), ArgumentError, r"x: expected shape \[..., N, 8\]"),
        (lambda: layer_of()(numbers(2, 5, D), torch.ones(2, 4).bool()), ArgumentError, "mask: expected shape"),
        (lambda: layer_of()(numbers(2, 5, D), torch.ones(2, 5)), ArgumentTypeError, "mask: expected a boolean"),
        (
            lambda: layer_of(assignment="topk")(numbers(1, 5, D), state=KVState(5)),
            ArgumentError,
            "state: expected None",
        ),
        (lambda: layer_of(decay=1.0), ArgumentError, "decay: expected a number in"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------------- learning

KEYS, VALUES, LENGTH, ASKED, WIDTH = 16, 16, 256, 32, 64


def recall(count, generator):
    """Sixteen tokens with a key and a value each among noise; at the end, keys only, at least 65 tokens later.

    Tokens [B, N, 2] (key or noise, value or none) and the values [B, A] that the last A keys ask for.
    """
    x = torch.zeros(count, LENGTH, 2, dtype=torch.long)
    x[..., 0] = torch.randint(1 + KEYS, 1 + KEYS + 16, (count, LENGTH), generator=generator)
    place = torch.rand(count, LENGTH - ASKED - 64, generator=generator).argsort(1)[:, :KEYS]
    key = torch.rand(count, KEYS, generator=generator).argsort(1)
    value = torch.randint(VALUES, (count, KEYS), generator=generator)
    x[..., 0].scatter_(1, place, key + 1)
    x[..., 1].scatter_(1, place, value + 1)
    ask = torch.randint(KEYS, (count, ASKED), generator=generator)
    x[:, -ASKED:, 0] = key.gather(1, ask) + 1
    return x, value.gather(1, ask)


class Recaller(torch.nn.Module):
    """Two layers, each attention and an MLP."""

    def __init__(self, attention):
        super().__init__()
        self.key, self.value = torch.nn.Embedding(1 + KEYS + 16, WIDTH), torch.nn.Embedding(1 + VALUES, WIDTH)
        self.place = torch.nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.1)
        self.attention = torch.nn.ModuleList(attention() for _ in range(2))
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(WIDTH) for _ in range(5))
        self.hidden = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Linear(WIDTH, 2 * WIDTH), torch.nn.GELU(), torch.nn.Linear(2 * WIDTH, WIDTH)
            )
            for _ in range(2)
        )  # fmt: skip
        self.out = torch.nn.Linear(WIDTH, VALUES)

    def forward(self, x):
        h = self.key(x[..., 0]) + self.value(x[..., 1]) + self.place
        for i in range(2):
            h = h + self.attention[i](self.norms[2 * i](h))
            h = h + self.hidden[i](self.norms[2 * i + 1](h))
        return self.out(self.norms[4](h[:, -ASKED:]))


def routed():
    """Two heads over 8 clusters with 64 tokens each; two over blocks of 16 and the previous one: a window of 32."""
    return RoutingAttention(
        WIDTH, 4, num_clusters=8, cluster_size=64, local_heads=2, local_window=16, decay=0.99, commitment=COMMITMENT
    )


class Chance(OnlineKMeans):
    """Random clusters for every token of every call: routing without content."""

    def nearest(self, x):
        return torch.randint(self.size.shape[1], (x.shape[0], x.shape[2], x.shape[1]))


def drawn():
    layer = routed()
    layer.router = Chance(2, 8, layer.head_dim)
    return layer


def local():
    return SelfAttention(WIDTH, 4, causal=True, pattern=lambda n: patterns.block_local(n, 16, before=1))


COMMITMENT, STEPS = 1e-4, 200


@pytest.mark.slow
@pytest.mark.parametrize(("attention", "low", "high"), [(routed, 0.8, 1.0), (drawn, 0.0, 0.35), (local, 0.0, 0.2)])
def test_routing_recalls_what_no_window_reaches(attention, low, high):
    """Chance is 1/16; two windows of 32 reach 62 tokens; two random heads find a key in 23 of 100 cases."""
    torch.manual_seed(0)
    net, generator = Recaller(attention), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 30, 2 * (1 - step / STEPS))
        x, y = recall(16, generator)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x).flatten(0, 1), y.flatten()) + aux_losses(net)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    x, y = recall(64, torch.Generator().manual_seed(7))
    with torch.no_grad():
        right = float((net.eval()(x).argmax(-1) == y).double().mean())
    print(f"{attention.__name__}: {right:.3f}")
    assert low <= right <= high
