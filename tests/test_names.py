"""Public parameters and attributes have one name each: the table of DESIGN.md, over every export."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

import hgraph

ROOT = Path(hgraph.__file__).parent
PACKAGES = ["", *(".".join(path.parent.relative_to(ROOT).parts) for path in sorted(ROOT.rglob("__init__.py")))]
SKIPPED = ("cli", "kernels", "benchmarks")  # not for import by users
# name -> what it is called here
NEVER = {
    "num_vertices": "num_nodes", "num_v": "num_nodes", "n": "num_nodes or num_tokens", "embed_dim": "dim",
    "width": "dim or out_channels", "hidden": "hidden_channels", "features": "in_channels",
    "heads": "num_heads",
    "layers": "num_layers", "depth": "num_layers", "hops": "num_hops", "present": "mask", "padding": "mask",
    "key_padding_mask": "mask", "block": "block_size", "span": "block_size or window", "size": "num_..., ..._size",
    "sink": "num_sink", "k": "top_k", "repeats": "duplicates", "l2": "weight_decay",
    "every": "eval_every or save_every",
    "check": "validate", "kge_dim": "relation_dim",
}  # fmt: skip
_QKV = "keys of attention"
_RANK = "as in hits@k"
_L2 = "the L2 term of a ranking loss over the rows of a batch; the optimizer's weight decay is another number"
_PICTURE = "the width of a picture or map"
_ANY = "a size that its docstring says what of"
_LENGTH = "a number of tokens"
EXCEPTIONS = (
    ("k", _QKV, "attend attend_groups attention_weights edge_score combiner_attention edge_influence"),
    ("k", _QKV, "landmark_attention attend_oracle linear_attention"),
    ("k", _RANK, "ndcg_at recall_at recommend fit_recommender"),
    ("k", "nearest neighbors", "knn_graph knn_hypergraph"),
    ("l2", _L2, "CFKG.triple_loss CKE.triple_loss KGAT.triple_loss transr_loss KGCN.pair_loss RippleNet.pair_loss"),
    ("l2", _L2, "fit_recommender fit_triples"),
    ("width", _PICTURE, "grid_graph patch_hypergraph AxialTransformer area_adjacency"),
    ("n", _LENGTH, "SparseQueryAttention.score_flops SpanRule.span SpanRule.blocks CombinerAttention.partitions_of"),
    ("n", _LENGTH, "LandmarkAttention.graph_of is_landmark"),
    ("size", _ANY, "LandmarkState.append LandmarkState.recall LandmarkState.log_weights uniform_hypergraph"),
    ("span", "the span that the rule gives, in tokens", "SpanRule"),
    ("features", "how many features a row has", "Predictor"),
    ("size", _ANY, "block_local summaries tree_topk fixed Statistics OnlineKMeans"),
)
ALLOWED = {(name, parameter) for parameter, _, names in EXCEPTIONS for name in names.split()}


def names_of(name: str, value: object) -> list[tuple[str, str]]:
    """(qualified name, parameter or attribute) of an export."""
    found: list[tuple[str, str]] = []
    members = [(name, value)]
    if inspect.isclass(value):
        found += [(name, key) for key in getattr(value, "__annotations__", {})]
        for key, member in vars(value).items():
            if key.startswith("_"):
                continue
            found.append((name, key))
            function = getattr(member, "__func__", member)
            if inspect.isfunction(function):
                members.append((f"{name}.{key}", function))
    for qualified, member in members:
        try:
            found += [(qualified, parameter) for parameter in inspect.signature(member).parameters]  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue
    return found


def exports() -> dict[str, object]:
    found = {}
    for package in PACKAGES:
        if package.split(".")[0] in SKIPPED:
            continue
        module = importlib.import_module(f"hgraph.{package}" if package else "hgraph")
        for name in getattr(module, "__all__", ()):
            found.setdefault(name, getattr(module, name))
    return found


EXPORTS = exports()


@pytest.mark.parametrize("name", EXPORTS)
def test_names_are_those_of_the_table(name: str) -> None:
    wrong = [
        f"{qualified}: {parameter} is called {NEVER[parameter]}"
        for qualified, parameter in names_of(name, EXPORTS[name])
        if parameter in NEVER and (qualified, parameter) not in ALLOWED
    ]
    assert not wrong, "\n".join(wrong)


def test_exceptions_are_needed() -> None:
    used = {pair for name, value in EXPORTS.items() for pair in names_of(name, value)}
    assert not ALLOWED - used


def test_the_top_level_has_no_old_names() -> None:
    assert not hasattr(hgraph, "build")
    assert "fail" in str(names_of("f", lambda heads, fail: None))
