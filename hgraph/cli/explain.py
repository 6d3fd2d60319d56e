"""`hgraph explain`: what the prediction of a trained network for one node depends on."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.common import JsonOption, QuietOption, RootOption, check_picture, device_of, load, plain_errors
from hgraph.cli.node_runs import class_names
from hgraph.cli.numbers import whole
from hgraph.cli.teachers import prepare
from hgraph.cli.trained import check_run, config_of, encode_for_run, load_weights, read_settings, source_of
from hgraph.errors import ArgumentError, did_you_mean
from hgraph.report import aligned, format_value
from hgraph.schema import naming

if TYPE_CHECKING:
    from hgraph.analysis import NodeExplanation
    from hgraph.data import Data


class Over(Enum):
    """Parts of a structure."""

    EDGES = "edges"
    MEMBERSHIPS = "memberships"
    HYPEREDGES = "hyperedges"
    NODES = "nodes"


class Method(Enum):
    """How parts are scored."""

    INTEGRATED = "integrated"
    MASK = "mask"
    REMOVAL = "removal"
    GRADIENT = "gradient"


@plain_errors
def explain(
    run: Annotated[Path, typer.Argument(help="Folder written by `hgraph train`, for labels of nodes.")],
    node: Annotated[str, typer.Option(help="Name of the node, or its number in a data set without names.")],
    over: Annotated[
        Over | None, typer.Option(help="Parts that are scored; default: edges of a graph, hyperedges of a hypergraph.")
    ] = None,
    method: Annotated[
        Method,
        typer.Option(
            help="gradient; integrated: integrated gradients; mask: learned masks; removal: the output without the "
            "part, for every network."
        ),
    ] = Method.INTEGRATED,
    target: Annotated[
        str | None, typer.Option("--class", help="Name of the class to explain; default: the predicted one.")
    ] = None,
    top: Annotated[int, whole(help="Number of parts to print and to draw.")] = 8,
    draw: Annotated[Path | None, typer.Option(help="File for a picture of these parts (.png, .svg or .pdf).")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Explain a prediction: the edges, hyperedges, memberships or nodes that it depends on most.

    Positive scores support the class, negative scores oppose it. `without` is the probability of the class when the
    printed parts are removed; `alone` is its probability when only these parts remain.
    """
    from hgraph.analysis import draw_explanation, explain_node, fidelity
    from hgraph.files import writing

    if draw is not None:
        check_picture("draw", draw, run=run)
    check_run(run)
    settings, place = read_settings(run, config_of(run)), run / "config.json"
    with naming("source", place):
        loaded = load(source_of(run, settings), root=root, seed=settings.seed)
    data = prepare(loaded, settings.model, settings.setting, settings.seed)
    data = encode_for_run(run, data, None, settings.source, root, settings.seed).to(device_of(device))
    if settings.model.data not in ("graph", "hypergraph"):
        expected = "the run of a network over a graph or hypergraph"
        raise ArgumentError("run", expected, f"{run}, a run of {settings.model.title}")
    name = "teacher" if settings.distilled else "model"
    network = load_weights(settings.networks(data)[name], run, name, data, loaded.name)
    names, classes = _names(data, "node_names", data.num_nodes), class_names(data)
    at, wanted = _index("node", node, names), None if target is None else _index("class", target, classes)
    found = explain_node(
        network, data.x, data.structure, at,
        over=None if over is None else over.value, method=method.value, target=wanted,
    )  # fmt: skip
    best = found.top(top).tolist()
    parts = [(_describe(data, found, i, names), float(found.scores[i])) for i in best]
    measured = fidelity(network, data.x, data.structure, found, top_k=top)
    probability = measured.pop("probability")
    figures = {
        "probability": probability,
        "without": probability - measured["fidelity"],
        "alone": probability - measured["sufficiency_loss"],
    }
    if draw is not None:
        labels = data.y if data.y.dim() == 1 and not data.y.is_floating_point() else None
        ax = draw_explanation(data.structure, found, top_k=top, names=names, labels=labels)
        with writing(draw, "wb") as file:
            ax.figure.savefig(file, format=draw.suffix[1:], bbox_inches="tight")  # type: ignore[union-attr]
    if as_json:
        head = {"node": names[at], "class": classes[found.target], "over": found.over, "method": found.method}
        rows = [{"part": text, "score": score} for text, score in parts]
        typer.echo(json.dumps(head | figures | {"reached": int(found.reached.sum()), "parts": rows}, allow_nan=False))
        return
    shown = "  ".join(f"{key} {format_value(value)}" for key, value in figures.items())
    typer.echo(f"{names[at]} is {classes[found.target]}: {shown}")
    if not parts:
        typer.echo(f"It depends on no {found.over}.")
        return
    typer.echo(f"{len(parts)} of {int(found.reached.sum()):,} {found.over} that it can depend on ({found.method}):")
    typer.echo(aligned([[found.over, "score"], *([text, f"{score:+.4f}"] for text, score in parts)]))
    if draw is not None and not quiet:
        typer.echo(f"picture: {draw}")


def _names(data: Data, key: str, count: int) -> list[str]:
    """The names in the data, by default numbers."""
    return [str(name) for name in data.meta.get(key) or range(count)]


def _index(argument: str, name: str, names: list[str]) -> int:
    if name not in names:
        expected = f"one of {len(names):,} names, such as {names[0]}" if names else "a name"
        raise ArgumentError(argument, expected, repr(name), did_you_mean(name, names[:10_000]))
    return names.index(name)


def _describe(data: Data, found: NodeExplanation, part: int, names: list[str]) -> str:
    """A part by the names of its nodes."""
    structure: Any = data.structure
    if found.over == "nodes":
        return names[part]
    if found.over == "edges":
        return f"{names[int(structure.adj.indices[part])]} -> {names[int(structure.adj.target[part])]}"
    v2e = structure.v2e
    hyperedge = part if found.over == "hyperedges" else int(v2e.target[part])
    given = data.meta.get("hyperedge_names")
    label = f"{given[hyperedge]}: " if given and hyperedge < len(given) else f"{hyperedge}: "
    if found.over == "memberships":
        return f"{label}{names[int(v2e.indices[part])]}"
    members = [names[i] for i in v2e.indices[v2e.indptr[hyperedge] : v2e.indptr[hyperedge + 1]].tolist()]
    return label + ", ".join(members[:6]) + (f" and {len(members) - 6} more" if len(members) > 6 else "")
