"""Landmark attention (Mohtashami and Jaggi, 2023): softmax by loops, limits, retrieval, traffic, and a pass-key."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from hgraph import analysis, patterns
from hgraph.errors import ArgumentError
from hgraph.nn import LandmarkAttention, SelfAttention, record_attention
from hgraph.nn.attention import LandmarkState, apply_rotary_emb, insert_landmarks, is_landmark, landmark_attention
from hgraph.nn.attention.landmark import layer as layers
from hgraph.nn.attention.landmark import state as states


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def given(n, heads=4, kv=2, width=6, values=5):
    return numbers(n, heads, width), numbers(n, kv, width, seed=1), numbers(n, kv, values, seed=2)


def grouped_softmax(score, i, block):
    """The three equations for one target: a weight per token, 0 for landmarks; ``score(j)`` is the score of token j."""
    size, own = block + 1, i // (block + 1)
    near = [j for j in range(own * size, i + 1) if j % size != block]
    landmarks = [c * size + block for c in range(own)]
    first = torch.stack([score(j) for j in near + landmarks]).softmax(0)
    prob = dict(zip(near, first, strict=False))
    for c in range(own):
        members = range(c * size, c * size + block)
        second = torch.stack([score(j) for j in members]).softmax(0)
        prob |= {j: first[len(near) + c] * s for j, s in zip(members, second, strict=True)}
    return prob


def probs(q, k, block):
    """[H, T, T] by loops over heads and targets."""
    n, heads, width = q.shape
    out = torch.zeros(heads, n, n, dtype=q.dtype)
    for h in range(heads):
        for i in range(n):
            own = grouped_softmax(lambda j: q[i, h] @ k[j, h * k.shape[1] // heads] / width**0.5, i, block)  # noqa: B023
            for j, prob in own.items():
                out[h, i, j] = prob
    return out


def layer_of(seed=0, **options):
    torch.manual_seed(seed)
    layer = LandmarkAttention(8, 4, **{"block_size": 4, "num_kv_heads": 2, **options}).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return layer


# ---------------------------------------------------------------------- training form


@pytest.mark.parametrize(("n", "block"), [(23, 4), (25, 4), (3, 4), (4, 4), (5, 4), (7, 1), (13, 5), (1, 2), (0, 2)])
def test_the_grouped_softmax_matches_the_loops(n, block):
    q, k, v = given(n)
    prob = probs(q, k, block)
    torch.testing.assert_close(prob.sum(2), torch.ones(4, n, dtype=torch.float64), rtol=1e-14, atol=1e-14)
    expected = torch.einsum("hts,shd->thd", prob, v.repeat_interleave(2, 1))
    torch.testing.assert_close(landmark_attention(q, k, v, block).out, expected, rtol=1e-12, atol=1e-12)


def test_landmarkattention_parity():
    layer, x, n = layer_of(rotary=50.0), numbers(2, 23, 8), 23
    for b in range(2):
        q, k, v = (f(x[b]).unflatten(-1, (-1, 2)) for f in (layer.query, layer.key, layer.value))
        q, k = (apply_rotary_emb(t, torch.arange(n), 50.0) for t in (q, k))
        attended = torch.einsum("hts,shd->thd", probs(q, k, 4), v.repeat_interleave(2, 1))
        torch.testing.assert_close(layer(x)[b], layer.out(attended.flatten(1)), rtol=1e-12, atol=1e-12)


def test_records_and_the_graph_have_the_exact_support():
    layer, x = layer_of(), numbers(2, 23, 8)
    with record_attention(layer) as records:
        layer(x)
    record = records[""][0]
    assert layer.graph_of(23).is_causal
    for b in range(2):
        expected = probs(record.query[b], record.key[b], 4)
        assert torch.equal(expected > 0, layer.graph_of(23).adjacency().dense().bool().expand(4, -1, -1))
        for h in range(4):
            adj, prob = record.weights(example=b, head=h)
            torch.testing.assert_close(adj.with_weight(prob).dense(), expected[h], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("select", ["token_and_head", "max_over_tokens"])
@pytest.mark.parametrize("blocks", [8, 2])
def test_records_of_chunks_include_recalled_blocks(select, blocks):
    """Times the values, they are the output; with all blocks recalled, they are rows of the full record."""
    layer, x = layer_of(), numbers(2, 23, 8)
    value = layer.value(x).unflatten(-1, (2, 2)).repeat_interleave(2, 2)
    state = LandmarkState(blocks, blocks, select=select, positions="true")
    with record_attention(torch.nn.ModuleDict({"layer": layer})) as whole:
        layer(x)
    with record_attention(layer) as records:
        outs = [layer(x[:, a:b], state=state) for a, b in ((0, 3), (3, 11), (11, 12), (12, 21), (21, 23))]
    at = 0
    for record, out in zip(records[""], outs, strict=True):
        attended = torch.zeros(2, out.shape[1], 4, 2, dtype=torch.float64)
        for b, h in itertools.product(range(2), range(4)):
            adj, prob = record.weights(example=b, head=h)
            rows = adj.with_weight(prob).dense()
            attended[b, :, h] = rows @ value[b, : adj.num_sources, h]
            exact, shares_ = whole["layer"][0].weights(example=b, head=h)
            expected = exact.with_weight(shares_).dense()[at : at + len(rows), : adj.num_sources]
            if blocks == 8:
                torch.testing.assert_close(rows, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(layer.out(attended.flatten(-2)), out, rtol=1e-12, atol=1e-12)
        at += out.shape[1]
    assert analysis.column_mass(records[""][-1]).shape == (4, 23)


def test_without_a_finished_block_it_is_causal_attention():
    layer, plain = layer_of(block_size=20, rotary=50.0), SelfAttention(8, 4, num_kv_heads=2, causal=True, rotary=50.0)
    plain = plain.double()
    plain.load_state_dict(layer.state_dict())
    x = numbers(2, 20, 8)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-12, atol=1e-12)


def test_a_block_of_one_token_has_the_weight_of_its_landmark():
    q, k, v = given(9)
    for h in range(4):
        score = q[8, h] @ k[:, h // 2].T / math.sqrt(6)
        attended = [1, 3, 5, 7, 8]  # four landmarks and itself
        expected = score[attended].softmax(0) @ v[[0, 2, 4, 6, 8], h // 2]
        torch.testing.assert_close(landmark_attention(q, k, v, 1).out[8, h], expected, rtol=1e-12, atol=1e-12)


def test_landmarks_that_sum_their_blocks_give_dense_attention():
    n, block, width = 23, 4, 6
    q, k, v = given(n, kv=4)
    landmark, wide = is_landmark(n, block), width + n
    # One further feature a receiver, by which a landmark's score can be any number.
    q = torch.cat([q, torch.eye(n, dtype=q.dtype).unsqueeze(1).expand(-1, 4, -1)], 2)
    k = torch.cat([k, torch.zeros(n, 4, n, dtype=k.dtype)], 2)
    score = torch.einsum("thd,shd->hts", q, k) / math.sqrt(wide)
    for j in landmark.nonzero().flatten().tolist():
        k[j] = 0
        k[j, :, width:] = score[:, :, j - block : j].logsumexp(2) * math.sqrt(wide)
    mask = torch.ones(n, n).tril().bool() & ~landmark
    expected = torch.einsum("hts,shd->thd", score.masked_fill(~mask, -torch.inf).softmax(-1), v)
    torch.testing.assert_close(landmark_attention(q, k, v, block).out, expected, rtol=1e-12, atol=1e-12)


def test_gradients_and_what_has_none():
    leaves = [x.requires_grad_() for x in given(11, heads=2, kv=1, width=3, values=2)]
    assert torch.autograd.gradcheck(lambda *x: landmark_attention(*x, 3), leaves)
    _, grad_k, grad_v = torch.autograd.grad(landmark_attention(*leaves, 3).out.square().sum(), leaves)
    landmark = is_landmark(11, 3)
    assert not grad_v[landmark].any()
    assert grad_v[~landmark].abs().sum((1, 2)).all()
    assert grad_k[3].any()
    assert grad_k[7].any()
    leaves = [x[:8].detach().requires_grad_() for x in leaves]
    grad_k = torch.autograd.grad(landmark_attention(*leaves, 3).out.square().sum(), leaves)[1]
    assert not grad_k[7].any()  # no token comes after its block


@pytest.mark.parametrize("block", [1, 4, 50])
def test_causality_bit_for_bit(block):
    layer, x = layer_of(block_size=block).float(), numbers(1, 120, 8).float()
    before = layer(x)
    for t in (0, 3, 4, 5, 50, 119):
        changed = x.clone()
        changed[:, t] += 1
        after = layer(changed)
        assert torch.equal(before[:, :t], after[:, :t])
        assert (before[:, t] != after[:, t]).any()


def test_group_dropout_does_not_affect_the_own_block():
    layer, x = layer_of(group_dropout=0.5), numbers(400, 13, 8)
    with torch.no_grad():
        exact, drawn = layer(x[:1].expand(400, -1, -1)), layer.train()(x[:1].expand(400, -1, -1))
    torch.testing.assert_close(drawn[:, :5], exact[:, :5], rtol=1e-12, atol=1e-12)  # no earlier block
    assert (drawn[:, 5:] != exact[:, 5:]).any()
    spread = drawn.std(0) / 20
    assert ((drawn.mean(0) - exact[0]).abs() <= 5 * spread + 1e-12).all()  # the mean is that without


def test_position_jumps_in_training():
    layer, x, size = layer_of(jump=30).train(), numbers(2, 13, 8), 5
    torch.manual_seed(5)
    out = layer(x)
    torch.manual_seed(5)
    jumps, place = torch.randint(30, (2, 3)), []
    for example in jumps.tolist():
        at = 0
        for t in range(13):
            at += example[t // size] if t and t % size == 0 else 0
            place.append(at + t)
    place = torch.tensor(place).view(2, 13)
    assert place.max() > 40
    q, k, v = (f(x).unflatten(-1, (-1, layer.head_dim)) for f in (layer.query, layer.key, layer.value))
    q, k = (apply_rotary_emb(t, place, layer.rotary) for t in (q, k))
    attended = landmark_attention(q, k, v, size - 1).out.flatten(-2)
    torch.testing.assert_close(out, layer.out(attended), rtol=1e-12, atol=1e-12)
    assert torch.equal(layer.eval()(x), layer_of()(x))  # not in evaluation
    with pytest.raises(ArgumentError, match="jump: expected 0 without rotary embeddings, got 3"):
        layer_of(jump=3, rotary=None)


def test_jumps_are_below_their_bound_and_differ_among_examples(monkeypatch):
    layer, x, seen = layer_of(jump=3).train(), numbers(60, 13, 8), []
    monkeypatch.setattr(
        layers, "apply_rotary_emb", lambda y, place, base: seen.append(place) or apply_rotary_emb(y, place, base)
    )
    layer(x)
    steps = seen[0].diff(dim=-1)  # [60, 12]
    assert steps[:, [4, 9]].unique().tolist() == [1, 2, 3]
    assert (steps[:, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11]] == 1).all()
    assert len(steps.unique(dim=0)) == 9
    assert torch.equal(layer_of(jump=1).train()(x), layer_of()(x))


def test_states_work_after_inference_mode():
    layer, x, state = layer_of(), numbers(2, 13, 8), LandmarkState(4, 4)
    with torch.inference_mode():
        parts = [layer(x[:, :6], state=state)]
    with torch.no_grad():
        parts += [layer(x[:, a:b], state=state) for a, b in ((6, 7), (7, 13))]
    torch.testing.assert_close(torch.cat(parts, 1), layer(x), rtol=1e-12, atol=1e-12)


def test_head_mask_disables_heads():
    layer, x, mask = layer_of(), numbers(2, 13, 8), torch.tensor([[True, False, True, False]])
    half = layer_of()
    with torch.no_grad():
        half.out.weight.unflatten(1, (4, 2))[:, [1, 3]] = 0
    torch.testing.assert_close(layer(x, head_mask=mask), half(x), rtol=1e-12, atol=1e-12)
    steps = [layer(x[:, t : t + 1], state=state, head_mask=mask) for state in [LandmarkState(4, 4)] for t in range(13)]
    torch.testing.assert_close(torch.cat(steps, 1), half(x), rtol=1e-12, atol=1e-12)


def test_landmarks_are_inserted():
    ids = torch.arange(1, 8).expand(2, -1)
    out = insert_landmarks(ids, 3, 0)
    assert out[0].tolist() == [1, 2, 3, 0, 4, 5, 6, 0, 7]
    assert torch.equal(out == 0, is_landmark(9, 3).expand(2, -1))
    assert torch.equal(out[:, ~is_landmark(9, 3)], ids)


def test_compiles_as_one_graph():
    layer, x = layer_of().float(), numbers(2, 23, 8).float()
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    outs = [compiled(x), layer(x)]
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*(torch.autograd.grad(o.square().sum(), list(layer.parameters())) for o in outs))


def test_compiles_for_one_length_after_another():
    """From the second length on, a compiler uses symbolic lengths, for which no structure can be made."""
    layer = layer_of().float()
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager")
    with torch.no_grad():
        for n in (9, 23, 6):
            x = numbers(2, n, 8).float()
            torch.testing.assert_close(compiled(x), layer(x))


# ---------------------------------------------------------------------- retrieval


def recalled_by_loops(layer, chunks, state):
    """One example, chunk by chunk: scores of past landmarks, selection, positions, and one grouped softmax."""
    size, heads, width, base = layer.block_size + 1, layer.query_heads, layer.head_dim, layer.rotary
    k_most, all_k, all_v, outs = state.topk, [], [], []

    def turned(x, place):
        return apply_rotary_emb(x.view(1, 1, -1), torch.tensor([place]), base).view(-1)

    for x in chunks:
        q, k, v = (f(x).unflatten(-1, (-1, width)) for f in (layer.query, layer.key, layer.value))
        first = len(all_k)  # of the chunk's tokens
        done = first // size  # blocks before it
        stored = list(range(max(0, done - state.max_blocks), done))
        all_k += list(k)
        all_v += list(v)

        def score(i, h, j, blocks_back):
            """Token j as if its block began the given number of blocks before the chunk."""
            g = h * layer.kv_heads // heads
            place = j % size - blocks_back * size if blocks_back else j - done * size  # noqa: B023
            return turned(q[i, h], first + i - done * size) @ turned(all_k[j][g], place) / width**0.5  # noqa: B023

        def back(c):
            return min(done - c, k_most + 1) if state.positions == "stingy" else done - c  # noqa: B023

        landmark = torch.zeros(len(x), heads, len(stored), dtype=x.dtype)
        for i in range(len(x)):
            for h in range(heads):
                for at, c in enumerate(stored):
                    landmark[i, h, at] = score(i, h, c * size + layer.block_size, back(c))
        if stored and state.select == "max_over_heads":
            landmark = landmark.softmax(-1).amax(1, keepdim=True).expand(-1, heads, -1)
        if stored and state.select == "max_over_tokens":
            landmark = landmark.softmax(-1).amax(0, keepdim=True).expand(len(x), -1, -1)
        out = torch.zeros(len(x), heads, width, dtype=x.dtype)
        for i in range(len(x)):
            for h in range(heads):
                best = landmark[i, h].argsort(descending=True)[:k_most].tolist()
                chosen = sorted(stored[b] for b in best)
                placed = {}
                for rank, c in enumerate(chosen):
                    placed[c] = done - c
                    if state.positions == "stingy":  # in order: older blocks from the far end, others to the chunk
                        placed[c] = k_most + 1 - rank if done - c > k_most else len(chosen) - rank
                own = (first + i) // size
                near = [j for j in range(own * size, first + i + 1) if j % size != layer.block_size]
                blocks = [*chosen, *range(done, own)]
                places = [placed.get(c) for c in blocks]
                top = [score(i, h, j, None) for j in near]
                top += [score(i, h, c * size + layer.block_size, b) for c, b in zip(blocks, places, strict=True)]
                prob = torch.stack(top).softmax(0)
                g = h * layer.kv_heads // heads
                out[i, h] = sum(s * all_v[j][g] for s, j in zip(prob, near, strict=False))
                for s, c, b in zip(prob[len(near) :], blocks, places, strict=True):
                    members = range(c * size, c * size + layer.block_size)
                    inner = torch.stack([score(i, h, j, b) for j in members]).softmax(0)
                    out[i, h] += s * sum(w * all_v[j][g] for w, j in zip(inner, members, strict=True))
        outs.append(layer.out(out.flatten(1)))
    return torch.cat(outs)


@pytest.mark.parametrize(
    ("topk", "most", "select", "positions"),
    [
        (1, 9, "token_and_head", "true"),
        (2, 9, "token_and_head", "stingy"),
        (3, 5, "token_and_head", "stingy"),
        (2, 9, "max_over_heads", "stingy"),
        (3, 5, "max_over_heads", "true"),
        (2, 5, "max_over_tokens", "stingy"),
        (3, 9, "max_over_tokens", "true"),
    ],
)
@pytest.mark.parametrize("cuts", [[0, 7, 8, 9, 16, 22, 23, 27], [0, 19, 27]], ids=["steps", "more at once than stored"])
def test_retrieval_matches_the_loops(topk, most, select, positions, cuts):
    layer, x = layer_of(block_size=2, rotary=20.0), numbers(27, 8, seed=3)
    chunks = [x[a:b] for a, b in itertools.pairwise(cuts)]
    state = LandmarkState(most, topk, select=select, positions=positions)
    found = torch.cat([layer(chunk, state=state) for chunk in chunks])
    expected = recalled_by_loops(layer, chunks, state)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert (len(state), state.num_blocks) == (27, min(9, most))


@pytest.mark.parametrize("rotary", [None, 20.0])
@pytest.mark.parametrize("positions", ["stingy", "true"])
def test_recalling_every_block_equals_training(positions, rotary):
    layer, x = layer_of(rotary=rotary), numbers(2, 43, 8)
    for cuts in ([0, 43], [0, 9, 10, 11, 30, 43], list(range(44))):
        state = LandmarkState(9, 9, positions=positions)
        parts = [layer(x[:, a:b], state=state) for a, b in itertools.pairwise(cuts)]
        torch.testing.assert_close(torch.cat(parts, 1), layer(x), rtol=1e-10, atol=1e-10)


def test_only_selected_blocks_are_fetched():
    """NaN in the tokens of all other blocks; and the counts: 80 landmarks and 4 x 51 keys for 4096 tokens."""
    layer, n = LandmarkAttention(8, 1, block_size=50).eval(), 4096
    x, state, read = numbers(1, n, 8).float(), LandmarkState(100, 4), []

    class Spy(LandmarkState):
        def _fetched(self, entry):
            read.append(entry)
            return super()._fetched(entry)

    state.__class__ = Spy
    with torch.no_grad():
        for part in x[:, : n - 1].split(512, 1):
            layer(part, state=state)
        read.clear()
        held = state._open
        finished, length = state._finished, state._length
        clean = layer(x[:, n - 1 :], state=state)
        state._open, state._finished, state._length = held, finished, length
        (entry,) = read
        others = torch.tensor([r for r in range(100) if r not in entry.flatten().tolist()])
        for stored in state._blocks:
            stored[:, :, others] = float("nan")
        assert torch.equal(layer(x[:, n - 1 :], state=state), clean)
    assert (state.num_blocks, entry.numel() * 51) == (80, 204)


@pytest.mark.parametrize("chunk", [1, 6, 25])
def test_stingy_positions_are_bounded(chunk, monkeypatch):
    layer, x, seen = layer_of(block_size=4), numbers(1, 130, 8), []
    monkeypatch.setattr(
        states, "apply_rotary_emb", lambda y, place, base: seen.append(place) or apply_rotary_emb(y, place, base)
    )
    state = LandmarkState(100, 3)
    for part in x.split(chunk, 1):
        layer(part, state=state)
    assert max(int(p.max()) for p in seen) < (3 + 1) * 5 + 4 + chunk
    assert min(int(p.min()) for p in seen) >= -(3 + 1) * 5


def test_the_state_is_bounded_and_may_be_offloaded():
    layer, x = layer_of(), numbers(1, 90, 8)
    outs = []
    for offload in (None, "cpu"):
        state = LandmarkState(5, 2, offload=offload)
        outs.append(torch.cat([layer(part, state=state) for part in x.split(7, 1)], 1))
        assert state.num_blocks == 5
        assert [tuple(t.shape) for t in state._blocks] == [(1, 2, 5, 4, 2)] * 2
    assert torch.equal(*outs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LandmarkAttention(8, 2, block_size=0), "block_size: expected"),
        (lambda: LandmarkAttention(8, 2, group_dropout=1.0), r"group_dropout: expected a probability in \[0, 1\)"),
        (lambda: LandmarkState(4, 2, select="all"), "select: expected one of token_and_head"),
        (lambda: LandmarkState(4, 2, positions="near"), "positions: expected 'stingy' or 'true'"),
        (lambda: LandmarkState(0, 2), "max_blocks: expected"),
        (lambda: LandmarkState(4, 9), "topk: expected at most max_blocks = 4"),
        (lambda: LandmarkState(4, 2, offload="gpu"), "offload: expected a device"),
        (lambda: layer_of()(numbers(5, 7)), r"x: expected shape \[..., N, 8\]"),
        (lambda: layer_of()(numbers(5, 8), head_mask=torch.ones(3).bool()), "head_mask: expected shape"),
        (lambda: [layer_of()(numbers(b, 7, 8), state=s) for s in [LandmarkState(4, 2)] for b in (2, 3)],
         r"x: expected examples \[2\] as before"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_only_the_pattern_of_the_paper_is_supported():
    from hgraph.nn.attention import AttentionKind, require_kind

    require_kind(LandmarkAttention, AttentionKind.CAUSAL_SELF)
    for kind in set(AttentionKind) - {AttentionKind.CAUSAL_SELF}:
        with pytest.raises(ArgumentError, match="kind: expected causal self for LandmarkAttention"):
            require_kind(LandmarkAttention, kind)


def test_landmark_blocks_match_the_definition():
    for n, block in ((0, 3), (1, 3), (14, 3), (12, 1)):
        size = block + 1
        pairs = [[t // size == s // size and s <= t and s % size != block for s in range(n)] for t in range(n)]
        found = patterns.landmark_blocks(n, block).adjacency().dense().bool()
        assert torch.equal(found, torch.tensor(pairs, dtype=torch.bool).view(n, n))


# ---------------------------------------------------------------------- learning


class Reader(torch.nn.Module):
    """Predicts the pass-key at a question: one of ten tokens that occurred once among sixteen others."""

    def __init__(self, dim=64, layers=2, block=7):
        super().__init__()
        self.embed = torch.nn.Embedding(28, dim)
        self.attend = torch.nn.ModuleList(LandmarkAttention(dim, 4, block_size=block) for _ in range(layers))
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(dim) for _ in range(2 * layers))
        self.mlps = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(dim, 2 * dim), torch.nn.GELU(), torch.nn.Linear(2 * dim, dim))
            for _ in range(layers)
        )
        self.read = torch.nn.Linear(dim, 10)

    def forward(self, tokens, recall=None):
        h = self.embed(tokens)
        for i, (layer, mlp) in enumerate(zip(self.attend, self.mlps, strict=True)):
            h = h + layer(self.norms[2 * i](h), state=None if recall is None else recall[i])
            h = h + mlp(self.norms[2 * i + 1](h))
        return self.read(h[:, -1])


NOISE, KEY, QUESTION, LANDMARK, BLOCK = 16, 10, 26, 27, 7


def passkeys(count, length, generator, *, oldest=None):
    """Sequences of ``length`` with landmarks, the key before token ``oldest`` (or anywhere); and the keys."""
    ordinary = length - length // (BLOCK + 1)
    tokens = torch.randint(NOISE, (count, ordinary), generator=generator)
    key = torch.randint(KEY, (count,), generator=generator)
    place = torch.randint(ordinary - 1 if oldest is None else oldest, (count,), generator=generator)
    tokens[torch.arange(count), place] = NOISE + key
    tokens[:, -1] = QUESTION
    return insert_landmarks(tokens, BLOCK, LANDMARK), key


@pytest.mark.slow
def test_a_passkey_is_found_far_beyond_the_training_length():
    """Trained at length 127, read at 1023 by two recalled blocks: over 80 %; by its last 127 tokens: chance, 10 %."""
    torch.manual_seed(0)
    model, generator = Reader(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(250):
        tokens, key = passkeys(32, 127, generator)
        loss = torch.nn.functional.cross_entropy(model(tokens), key)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    tokens, key = passkeys(500, 1023, generator, oldest=700)
    with torch.no_grad():
        recall = [LandmarkState(128, 2) for _ in model.attend]
        for chunk in tokens.split(64, 1):
            said = model(chunk, recall)
        found = float((said.argmax(1) == key).float().mean())
        blind = float((model(tokens[:, 1024 - 128 :]).argmax(1) == key).float().mean())
        inside, own = passkeys(500, 127, generator)
        trained = float((model(inside).argmax(1) == own).float().mean())
    print(f"trained length {trained:.3f}, length 1023 by two blocks {found:.3f}, its last 127 tokens {blind:.3f}")
    assert found > 0.8
    assert blind < 0.15
