"""Beam search with every decode state equals a search over full forwards."""

from __future__ import annotations

import itertools

import pytest
import torch

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn import SelfAttention
from hgraph.nn.attention import DecodeState, KVState
from tests.nn.cases import DECODERS, DIM, randn

WORDS, LENGTH, WIDTH = 3, 6, 3
EMBEDDING = randn(WORDS + 1, DIM, seed=3, dtype=torch.float64)  # the last one begins a sentence
HEAD = randn(DIM, WORDS, seed=4, dtype=torch.float64)


def step_scores(layer, inputs, **state):
    """Log-probabilities [B, T, WORDS] of the next words after inputs [B, T]."""
    return (layer(EMBEDDING[inputs], **state) @ HEAD).log_softmax(-1)


def beam_search(layer, state):
    """The best sentences and their scores, one step at a time."""
    scores, sentences = torch.zeros(1, dtype=torch.float64), torch.full((1, 1), WORDS)
    for _ in range(LENGTH):
        each = scores.unsqueeze(1) + step_scores(layer, sentences[:, -1:], state=state)[:, -1]
        scores, best = each.flatten().topk(WIDTH)
        parent = best // WORDS
        state.reorder(parent)
        sentences = torch.cat([sentences[parent], (best % WORDS).unsqueeze(1)], 1)
    return sentences[:, 1:].tolist(), scores


def search_of_whole_forwards(layer):
    """The same over a table of all sentences, each by one whole forward."""
    every = list(itertools.product(range(WORDS), repeat=LENGTH))
    inputs = torch.tensor([(WORDS, *words[:-1]) for words in every])
    chosen = step_scores(layer, inputs).gather(2, torch.tensor(every).unsqueeze(2)).squeeze(2)
    table = dict(zip(every, chosen, strict=True))
    beams = [((), 0.0)]
    for t in range(LENGTH):
        longer = [(*words, w) for words, _ in beams for w in range(WORDS)]
        scores = [float(table[(*words, *(0,) * (LENGTH - t - 1))][: t + 1].sum()) for words in longer]
        beams = sorted(zip(longer, scores, strict=True), key=lambda pair: -pair[1])[:WIDTH]
    return [list(words) for words, _ in beams], torch.tensor([score for _, score in beams], dtype=torch.float64)


@pytest.mark.parametrize("name", DECODERS)
def test_beam_search_equals_a_search_over_full_forwards(name):
    _, case = DECODERS[name]
    layer = case.module(dtype=torch.float64)
    with torch.no_grad():
        state = case.state(layer, LENGTH)
        assert isinstance(state, DecodeState)
        expected, total = search_of_whole_forwards(layer)
        for again in (False, True):  # the same state, reset
            if again:
                state.reset()
            sentences, scores = beam_search(layer, state)
            assert sentences == expected
            torch.testing.assert_close(scores, total, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["all tokens", "spans in rings", "combiner", "combiner of clusters", "landmarks"])
def test_states_reordered_in_inference_mode_continue_outside_of_it(name):
    _, case = DECODERS[name]
    layer, (x,) = case.module(dtype=torch.float64), case.inputs(21)
    state, index = case.state(layer, 21), torch.tensor([1, 0, 1])
    with torch.inference_mode():
        layer(x[:, :9], state=state)
        state.reorder(index.clone())
    with torch.no_grad():
        steps = torch.cat([layer(x[index, a:b], state=state) for a, b in ((9, 10), (10, 21))], 1)
        torch.testing.assert_close(steps, layer(x)[index, 9:], rtol=1e-11, atol=1e-11)


def test_wrong_reordering_is_refused():
    layer, state = SelfAttention(DIM, 2, causal=True), KVState(5)
    state.reorder(torch.tensor([0]))  # nothing is stored yet
    layer(torch.zeros(2, 3, 1, DIM), state=state)
    with pytest.raises(ArgumentError, match=r"state: expected one batch dimension \[B\] to reorder, got \[2, 3\]"):
        state.reorder(torch.tensor([0]))
    for wrong in (torch.tensor(0), torch.tensor([0.0]), torch.tensor([True]), [0]):
        with pytest.raises(ArgumentTypeError, match="index: expected indices"):
            state.reorder(wrong)
