"""`hgraph export` and `hgraph serve`: export and serve the student of a run."""

from __future__ import annotations

import functools
import json
import shlex
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.choices import TOWERS
from hgraph.cli.common import JsonOption, QuietOption, plain_errors
from hgraph.cli.lessons import is_node_run
from hgraph.cli.numbers import real, whole
from hgraph.cli.towers import ONNX, is_run
from hgraph.cli.trained import config_of
from hgraph.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from hgraph.distill import Predictor
    from hgraph.distill.serving.limits import Limits

RunArgument = Annotated[Path, typer.Argument(help="Folder written by `hgraph distill` or `hgraph export`.")]
ServedArgument = Annotated[
    Path,
    typer.Argument(
        help="Folder written by `hgraph distill` or `hgraph export`, or by `hgraph train` for a recommender."
    ),
]


_SHOWN = 8  # columns of the example request


class Format(Enum):
    """Formats of an exported student."""

    TORCH = "torch"
    ONNX = "onnx"
    INT8 = "int8"


class Program(Enum):
    """Formats of a student that can predict."""

    LAYERS = "layers"
    ONNX = "onnx"
    INT8 = "int8"


ProgramOption = Annotated[
    Program | None, typer.Option(help="Exported format to predict with; default: the first that was exported.")
]


@plain_errors
def export(
    run: RunArgument,
    out: Annotated[Path | None, typer.Option(help="New folder; default: RUN/export.")] = None,
    format: Annotated[list[Format], typer.Option(help="Format of the exported student; repeatable.")] = [Format.ONNX],  # noqa: B006
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Export the student of a run to other formats; each exported program is run and checked against the student."""
    import torch

    from hgraph.distill import Predictor
    from hgraph.distill import export as write
    from hgraph.distill.serving.programs import Layers

    predictor = Predictor(student_of(run), program="layers")
    folder = out or run / "export"
    layers = Layers(predictor.folder / "student.safetensors")
    x = torch.randn(64, len(predictor.feature_names), generator=torch.Generator().manual_seed(0))
    formats = ["layers", *(f.value for f in format)]
    named: dict[str, Any] = {
        "class_names": predictor.classes,
        "feature_names": predictor.feature_names,
        "encoder": predictor.encoder,
        "notes": predictor.notes,
        "task": predictor.task,
    }
    deviations = write(layers, folder, x, formats=formats, **named)
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "largest_deviation": deviations}))
        return
    for name, deviation in deviations.items():
        typer.echo(f"{name}: largest deviation from the student {deviation:.2g} on 64 random rows")
    typer.echo(f"written: {folder}")


@plain_errors
def serve(
    run: ServedArgument,
    port: Annotated[int, whole(low=0, high=65535, help="Port to listen on; 0 chooses a free port.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 listens on all networks of this machine.")
    ] = "127.0.0.1",
    name: Annotated[
        list[str] | None, typer.Option(help="Host name that clients may use, in addition to localhost; repeatable.")
    ] = None,
    max_body: Annotated[int, whole(high=2**40, help="Maximum size of a request in bytes.")] = 16 * 2**20,
    max_connections: Annotated[int, whole(high=10**6, help="Maximum number of open connections.")] = 100,
    request_timeout: Annotated[
        float, real(low=0.001, high=3600, help="Time limit in seconds for a request to arrive.")
    ] = 10.0,
    program: ProgramOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the address as one JSON object on stdout.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Serve predictions or recommendations over HTTP, by default to this machine only.

    Clients of a student send {"rows": [{"column": value}]} to POST /predict; clients of a recommender's run send
    {"user": "ann", "k": 10} to POST /recommend.

    Example request:

    curl -X POST http://127.0.0.1:8000/predict -H 'Content-Type: application/json' -d '{"rows": [{"column": 1.0}]}'

    curl -X POST http://127.0.0.1:8000/recommend -H 'Content-Type: application/json' -d '{"user": "ann", "k": 10}'

    Add "proba": true to get the probabilities of all classes. GET / lists the columns of a row, GET /health returns
    whether the server is running. There is no password: anyone who can reach the address gets an answer. Ctrl-C or
    SIGTERM stops the server after it has answered the current requests.
    """
    from hgraph.distill.serving.limits import Limits
    from hgraph.distill.serving.serve import application, listening, run_until_stopped

    hosts = (*Limits.hosts, host.lower(), *(n.lower() for n in name or ()))
    limits = Limits(hosts, max_body, max_connections, request_timeout)
    if is_run(str(run)):
        if program is not None:
            raise ArgumentError("program", "no value, because a recommender has no exported program", program.value)
        app, request = _recommender(run, limits)
    else:
        predictor = predictor_of(run, program)
        app, request = application(predictor, limits), functools.partial(_request, predictor)
    try:
        place = listening(host, port)
    except OSError as error:
        hint = "Choose another --port; 0 chooses a free port"
        what = f"{host}, {port} ({error.strerror or error})"
        raise ArgumentError("host, port", "an address of this machine and a free port", what, hint) from None
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{place.getsockname()[1]}"
    if as_json:
        typer.echo(json.dumps({"url": url}))
    else:
        typer.echo(f"serving {run} on {url}; Ctrl-C stops it\nexample request: {request(url)}")
    sys.stdout.flush()
    run_until_stopped(app, place, limits=limits, quiet=quiet or as_json)


def _recommender(run: Path, limits: Limits) -> tuple[Any, Callable[[str], str]]:
    """The application of a recommender's run, and a function of the address: a curl command for its first user."""
    from hgraph.cli.recommend import ranking
    from hgraph.cli.recommenders import load_run
    from hgraph.distill.serving.recommend import recommendations

    model, data, config = load_run(run, None)
    rank, user_names = ranking(model, data)
    about = {"model": config["model"], "users": data.num_users, "items": data.num_items}
    body = shlex.quote(json.dumps({"user": user_names(0), "k": 10}, ensure_ascii=False))

    def request(url: str) -> str:
        return f"curl -X POST {url}/recommend -H 'Content-Type: application/json' -d {body}"

    return recommendations(rank, about, limits), request


def _request(predictor: Predictor, url: str) -> str:
    """A curl command for one row of zeros, missing cells and first categories."""
    codings = None if predictor.encoder is None else predictor.encoder.codings
    row: dict[str, Any] = dict.fromkeys(predictor.columns, 0)
    if predictor.ids:
        row = {"id": predictor.ids[0]}
    if codings is not None:
        row = {c.name: c.words[0] if c.kind == "categorical" and c.words else None for c in codings}
    if len(row) > _SHOWN:
        row = {name: row[name] for name in list(row)[:_SHOWN]} | {"...": "..."}
    body = shlex.quote(json.dumps({"rows": [row]}, ensure_ascii=False))
    return f"curl -X POST {url}/predict -H 'Content-Type: application/json' -d {body}"


def predictor_of(run: Path, program: Program | None) -> Predictor:
    """Load the student of a run in the given format, also from RUN/export, where `hgraph export` writes it.

    Raises:
        DataError: the student in RUN/export is not the student of the run.
    """
    from hgraph.distill import Predictor
    from hgraph.distill.serving.export import CARD

    folder, exported = student_of(run), run / "export"
    if program in (None, Program.LAYERS) or not (exported / CARD).is_file():
        return Predictor(folder, program=None if program is None else program.value)
    weights = [(place / "student.safetensors").read_bytes() for place in (folder, exported)]
    if weights[0] != weights[1]:
        raise DataError(f"{exported}: not the student of {folder}. Export it again with `hgraph export {run}`")
    return Predictor(exported, program=program.value)


def student_of(run: Path) -> Path:
    """The folder of the student: the given one, or one in the run, where `hgraph distill RUN` creates a second run."""
    from hgraph.distill.serving.export import CARD

    for folder in (run, run / "student", run / "student" / "student"):
        if (folder / CARD).is_file():
            return folder
    if is_run(str(run)) and config_of(run).get("model") == TOWERS:
        exported = f"{run / ONNX} is its ONNX file" if (run / ONNX).is_file() else "it is a student already"
        hint = f"Use `hgraph recommend {run}`; {exported}"
        raise DataError(f"{run}: a run of a two-tower model, which ranks items and does not classify rows. {hint}")
    if is_run(str(run)):
        hint = f"Use `hgraph recommend {run}`; `hgraph distill {run}` trains a student of it and writes it as ONNX"
        raise DataError(f"{run}: a run of a recommender, which does not classify rows. {hint}")
    if is_node_run(str(run)):
        raise DataError(f"{run}: contains no student. `hgraph distill {run}` trains one")
    raise DataError(f"{run}: contains no student. `hgraph distill DATASET --out RUN` creates one")
