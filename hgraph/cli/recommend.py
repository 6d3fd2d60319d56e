"""`hgraph recommend`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.choices import RECOMMENDERS, TOWERS, listed
from hgraph.cli.common import LOG, JsonOption, QuietOption, RootOption, check_picture, plain_errors, written
from hgraph.cli.numbers import whole
from hgraph.errors import ArgumentError
from hgraph.files import write_atomically

if TYPE_CHECKING:
    from hgraph.data import Interactions
    from hgraph.models.recommend.base import Recommender
    from hgraph.train import Explanation

_SCORES = 2**24  # largest number of scores computed at once


@plain_errors
def recommend(
    run: Annotated[
        Path, typer.Argument(help=f"Folder written by `hgraph train --model M`, where M is {listed(RECOMMENDERS)}.")
    ],
    user: Annotated[str | None, typer.Option(help="Name of the user, or number if users have no names.")] = None,
    k: Annotated[int, whole("-k", help="Number of items.")] = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Print the paths from the user to each item.")] = False,
    steps: Annotated[int, whole(high=5, help="Maximum number of triples in a path.")] = 3,
    draw: Annotated[
        Path | None, typer.Option(help="File for a drawing of the paths to the first item (.png, .svg or .pdf).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file for the items of all users, instead of --user.")] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Recommend items to a user with a trained model, and explain why.

    Items that the user already has are left out, including those rated below the --min-rating used in training.
    Explanations are paths of interactions and triples from the training data. For kgat, paths are sorted by the product
    of their attention weights, which is printed. For other models they are only possible paths of messages, without
    weights.

    With --out instead of --user, the items of all users are written to a CSV file with the columns user, rank, item and
    score. The file appears only when it is complete.
    """
    from hgraph.cli.recommenders import load_run

    if (user is None) == (out is None):
        got = "neither" if user is None else "both"
        raise ArgumentError("user", "either --user NAME, or --out FILE for all users", got)
    if out is not None and (explain or draw is not None or as_json):
        raise ArgumentError("out", "--out without --explain, --draw or --json", "both")
    if draw is not None:
        check_picture("draw", draw, run=run)
    model, data, config = load_run(run, root)
    if (explain or draw is not None) and not model.uses_triples:
        hint = "Use the run of its teacher" if config["model"] == TOWERS else ""
        raise ArgumentError("explain", "no value, because this model does not use triples", type(model).__name__, hint)
    if user is None:
        _recommend_all(model, data, k, out, run, quiet)
        return
    number = _user(user, data)
    items = _items(model, data, number, k, steps if explain or draw is not None else None, draw)
    if as_json:
        typer.echo(json.dumps({"user": number, "name": _user_name(data, number), "items": items}, ensure_ascii=False))
        return
    typer.echo(f"for {_user_name(data, number)}:")
    for rank, entry in enumerate(items, 1):
        typer.echo(f"{rank:3d}. {entry['name']}  ({entry['score']:.3f})")
        for reason in entry.get("because", []) if explain else []:
            weight = "" if reason["weight"] is None else f"{reason['weight']:.1e}  "
            weight += "(negligible) " if reason["negligible"] else ""
            typer.echo(f"       {weight}{reason['path']}")
        if explain and entry["because"] and all(reason["negligible"] for reason in entry["because"]):
            typer.echo("       all negligible: the score comes from the embeddings, not from these paths")
        if explain and not entry["because"]:
            typer.echo(f"       no path of at most {steps} triples")


def _items(
    model: Recommender, data: Interactions, user: int, k: int, steps: int | None, draw: Path | None
) -> list[dict[str, Any]]:
    """Recommended items, with paths of at most ``steps`` triples as explanations; draws the paths to the first item."""
    from hgraph import train

    left = data.num_items - sum(int(p.indptr.diff()[user]) for p in data.known)
    if not left:
        raise ArgumentError("user", "a user with items left to recommend", repr(_user_name(data, user)))
    structure = train.structure_of(model, data)
    found = train.recommend(model, data, [user], min(k, left), structure=structure)
    graph = structure if structure.num_nodes == data.num_users + data.kg.num_nodes else data.collaborative()
    weighted = graph.adj.weight is not None  # without attention, the product of weights has no meaning
    items: list[dict[str, Any]] = []
    for item, score in zip(found.items[0].tolist(), found.scores[0].tolist(), strict=True):
        entry: dict[str, Any] = {"item": item, "name": _name(data, item), "score": score}
        if steps is not None:
            why = train.explain(graph, user, item, num_users=data.num_users, max_steps=steps)
            entry["because"] = [
                {"weight": p.weight if weighted else None, "negligible": why.negligible(p), "path": why.kg.tell(p)}
                for p in why.paths
            ]
            if draw is not None and not items:
                _draw(why, draw, f"why {_user_name(data, user)} is recommended {entry['name']}")
        items.append(entry)
    return items


def ranking(
    model: Recommender, data: Interactions
) -> tuple[Callable[[str, int], list[tuple[str, float]]], Callable[[int], str]]:
    """Two functions: the best k (item, score) pairs for a user name, and the name of the user with a number."""
    import math

    import torch

    from hgraph import train
    from hgraph.train.full_ranking import best_items

    scores_of, known = train.scorer(model, train.structure_of(model, data)), data.known

    def rank(user: str, k: int) -> list[tuple[str, float]]:
        users = torch.tensor([_user(user, data)])
        with torch.inference_mode():
            items, scores = best_items(scores_of(users), users, known, min(k, data.num_items))
        pairs = zip(items[0].tolist(), scores[0].tolist(), strict=True)
        return [(_name(data, item), score) for item, score in pairs if score > -math.inf]

    return rank, lambda number: _user_name(data, number)


def _draw(why: Explanation, path: Path, title: str) -> None:
    """Draw the paths, or log that there are none."""
    if not why.paths:
        LOG.warning("no plot, because no path is short enough (%s)", title)
        return
    content = io.BytesIO()
    why.draw(title=title).figure.savefig(content, format=path.suffix[1:], bbox_inches="tight")
    write_atomically(path, content.getvalue())
    LOG.info("written: %s", path)


def _recommend_all(model: Recommender, data: Interactions, k: int, out: Path | None, run: Path, quiet: bool) -> None:
    """Write k items per user to a CSV file, or fewer, because items that a user already has are left out."""
    import math

    import torch

    from hgraph import train
    from hgraph.train.full_ranking import best_items
    from hgraph.train.loop import bar

    taken, count = data.known, min(k, data.num_items)
    chunks = torch.arange(data.num_users).split(max(_SCORES // data.num_items, 1))
    with written(out, run=run) as file:
        scores_of = train.scorer(model, train.structure_of(model, data))  # computes the embeddings once for all chunks
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["user", "rank", "item", "score"])
        for users in bar(chunks, len(chunks), "recommend", False if quiet else None, unit="chunk"):
            lists = (part.tolist() for part in (users, *best_items(scores_of(users), users, taken, count)))
            for number, items, scores in zip(*lists, strict=True):
                for rank, (item, score) in enumerate(zip(items, scores, strict=True), 1):
                    if score > -math.inf:
                        writer.writerow([_user_name(data, number), rank, _name(data, item), f"{score:.6g}"])
    LOG.info("recommendations for %s users written to %s", f"{data.num_users:,}", out)


def _user(user: str, data: Interactions) -> int:
    if data.user_names is not None:  # never as a number: a name may look like another user's number
        return data.user_names.find(user, "user")
    number = user.removeprefix("user ")  # the name in explanations, if users have no names
    if number.isdecimal() and int(number) < data.num_users:
        return int(number)
    raise ArgumentError("user", f"a number in 0 .. {data.num_users - 1}", repr(user))


def _user_name(data: Interactions, user: int) -> str:
    return f"user {user}" if data.user_names is None else data.user_names[user]


def _name(data: Interactions, item: int) -> str:
    return f"item {item}" if data.kg.node_names is None else data.kg.node_names[item]
