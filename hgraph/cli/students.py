"""`hgraph export` and `serve`: what a run's student is used for."""

from __future__ import annotations

import json
import shlex
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.choices import TOWERS
from hgraph.cli.common import JsonOption, QuietOption, plain_errors
from hgraph.cli.numbers import real, whole
from hgraph.cli.towers import ONNX, is_run
from hgraph.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from hgraph.distill import Predictor

RunArgument = Annotated[Path, typer.Argument(help="Folder of a run of `hgraph distill`, or of `hgraph export`.")]


_SHOWN = 8  # columns of the example request


class Format(Enum):
    """Programs a student can be exported as."""

    TORCH = "torch"
    ONNX = "onnx"
    INT8 = "int8"


class Program(Enum):
    """Programs that can answer."""

    LAYERS = "layers"
    ONNX = "onnx"
    INT8 = "int8"


ProgramOption = Annotated[Program | None, typer.Option(help="Which program answers; default the first there is.")]


@plain_errors
def export(
    run: RunArgument,
    out: Annotated[Path | None, typer.Option(help="New folder; default RUN/export.")] = None,
    format: Annotated[list[Format], typer.Option(help="May be repeated.")] = [Format.ONNX],  # noqa: B006
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a run's student as programs for other places; each is run and compared first."""
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
    run: RunArgument,
    port: Annotated[int, whole(low=0, high=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is every network of this machine.")
    ] = "127.0.0.1",
    name: Annotated[
        list[str] | None, typer.Option(help="Name by which clients may call the server, beside localhost; repeatable.")
    ] = None,
    max_body: Annotated[int, whole(high=2**40, help="Bytes of a request.")] = 16 * 2**20,
    max_connections: Annotated[int, whole(high=10**6, help="Connections open at once.")] = 100,
    request_timeout: Annotated[float, real(low=0.001, high=3600, help="Seconds for a request to arrive.")] = 10.0,
    program: ProgramOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say the address as one JSON object on stdout.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Answer over HTTP, by default to this machine alone: POST /predict with {"rows": [{"column": value}]}.

    Ask it, for example, with

    curl -X POST http://127.0.0.1:8000/predict -H 'Content-Type: application/json' -d '{"rows": [{"column": 1.0}]}'

    and "proba": true beside the rows for the probabilities of all classes. GET / says which columns a row has, GET
    /health whether the server is up. There is no password: whoever reaches the address is answered. Ctrl-C, or SIGTERM,
    ends it once the requests under way are answered.
    """
    from hgraph.distill.serving.limits import Limits
    from hgraph.distill.serving.serve import application, listening, run_until_stopped

    hosts = (*Limits.hosts, host.lower(), *(n.lower() for n in name or ()))
    limits = Limits(hosts, max_body, max_connections, request_timeout)
    predictor = predictor_of(run, program)
    app = application(predictor, limits)
    try:
        place = listening(host, port)
    except OSError as error:
        hint = "Give another --port; 0 takes a free one"
        what = f"{host}, {port} ({error.strerror or error})"
        raise ArgumentError("host, port", "an address of this machine and a free port", what, hint) from None
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{place.getsockname()[1]}"
    if as_json:
        typer.echo(json.dumps({"url": url}))
    else:
        typer.echo(f"serving {run} on {url}; Ctrl-C stops\nask it: {_request(predictor, url)}")
    sys.stdout.flush()
    run_until_stopped(app, place, limits=limits, quiet=quiet or as_json)


def _request(predictor: Predictor, url: str) -> str:
    """A command that asks for one row: zeros, missing cells, and the first of categories."""
    codings = None if predictor.encoder is None else predictor.encoder.codings
    row: dict[str, Any] = dict.fromkeys(predictor.columns, 0)
    if codings is not None:
        row = {c.name: c.words[0] if c.kind == "categorical" and c.words else None for c in codings}
    if len(row) > _SHOWN:
        row = {name: row[name] for name in list(row)[:_SHOWN]} | {"...": "..."}
    body = shlex.quote(json.dumps({"rows": [row]}, ensure_ascii=False))
    return f"curl -X POST {url}/predict -H 'Content-Type: application/json' -d {body}"


def predictor_of(run: Path, program: Program | None) -> Predictor:
    """The run's student, answering by that program."""
    from hgraph.distill import Predictor

    return Predictor(student_of(run), program=None if program is None else program.value)


def student_of(run: Path) -> Path:
    """The folder of the exported student: the run's, or the one given."""
    from hgraph.distill.serving.export import CARD

    for folder in (run, run / "student"):
        if (folder / CARD).is_file():
            return folder
    if is_run(str(run)) and json.loads((run / "config.json").read_text(encoding="utf-8")).get("model") == TOWERS:
        exported = f"{run / ONNX} is its ONNX file" if (run / ONNX).is_file() else "it is a student already"
        hint = f"`hgraph recommend {run}` answers from it; {exported}"
        raise DataError(f"{run}: the run of two towers, which rank items and classify no rows. {hint}")
    if is_run(str(run)):
        hint = f"`hgraph distill {run}` writes one as ONNX, and `hgraph recommend` answers from its run"
        raise DataError(f"{run}: the run of a recommender, not of a student that classifies rows. {hint}")
    raise DataError(f"{run}: no student there. `hgraph distill DATASET --out RUN` makes one")
