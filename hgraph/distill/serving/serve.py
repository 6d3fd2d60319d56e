"""Serve an exported student over HTTP: ``POST /predict`` predicts rows, ``GET /`` lists the columns of a row.

Only requests within `Limits` reach the student.
"""

from __future__ import annotations

import html
import json
import math
import signal
import socket
import sys
from typing import Any

from hgraph.distill.serving.limits import Guard, Limits, watched
from hgraph.distill.serving.predictor import Predictor
from hgraph.errors import DataError, MissingPackageError

__all__ = ["application", "listening", "run_until_stopped", "server_of"]

_MOST_ROWS = 10_000  # per request


def application(predictor: Predictor, limits: Limits | None = None) -> Any:
    """A FastAPI application for any ASGI server.

    ``POST /predict`` takes ``{"rows": [{"column": value, ...}, ...]}``, or ``{"row": {...}}``, and answers
    ``{"answers": [{"label": ..., "probability": ...}, ...]}``; an answer of a regression is ``{"prediction": ...}``,
    one with several labels per row ``{"labels": "a;b"}``. With ``"proba": true`` in the request, each answer also has
    ``"probabilities"`` of all classes by name. The response also has ``"unseen"``, the counts of categories that
    were not in the training data, if there are any. If any row is invalid, the whole request is answered with status
    422 and a message that says what is wrong. ``GET /health`` answers ``{"status": "ok"}``, ``GET /openapi.json`` the
    description of all paths with the columns of a row, and ``GET /docs`` the same as a page that loads nothing from
    other hosts. Requests that exceed the ``limits`` are rejected before they reach the application.

    Raises:
        MissingPackageError: the packages of ``hgraph[serve]`` are not installed.
    """
    try:
        from fastapi import Body, FastAPI, HTTPException
        from fastapi.responses import HTMLResponse
    except ImportError as error:
        raise MissingPackageError("fastapi", "serve", "serving a student") from error

    app = FastAPI(title="hgraph student", docs_url=None, redoc_url=None)
    columns = list(predictor.columns)
    kinds = {c.name: c.kind for c in predictor.encoder.codings} if predictor.encoder is not None else {}
    kinds |= {"id": "id of a node"} if predictor.ids else {}

    @app.get("/")
    def about() -> dict[str, Any]:
        info: dict[str, Any] = {"columns": columns, "task": predictor.task.kind, "program": predictor.program}
        if predictor.task.has_classes:
            info["classes"] = list(predictor.classes)
        return info | ({"kinds": kinds} if kinds else {})

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/docs", include_in_schema=False)
    def docs() -> Any:
        return HTMLResponse(_page(app.openapi()))

    docs.__annotations__ = {"return": Any}

    @app.post("/predict", openapi_extra={"requestBody": _request(columns, kinds)})
    def predict(body: Any = Body()) -> dict[str, Any]:
        try:
            row_list, proba = _rows(body)
            rows = _columns(row_list, columns)
            x, unseen = predictor.encode(rows)
            predicted = predictor.predictions(x)
        except DataError as error:
            raise HTTPException(422, str(error)) from None
        extra = {"unseen": unseen} if unseen else {}
        return {"answers": predictor.task.answers(predicted, predictor.classes, proba=proba), **extra}

    # FastAPI resolves annotations by name, which fails for names that are local to this function
    predict.__annotations__ = {"body": Any, "return": dict[str, Any]}
    return Guard(app, limits or Limits())


def server_of(app: Any, limits: Limits | None = None, *, log_level: str = "error", access_log: bool = False) -> Any:
    """A uvicorn server for an application, with limits on connections and waiting times.

    Raises:
        MissingPackageError: the packages of ``hgraph[serve]`` are not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingPackageError("uvicorn", "serve", "serving a student") from error
    limits = limits or Limits()
    config = uvicorn.Config(
        app,
        http=watched(limits),
        ws="none",
        timeout_keep_alive=math.ceil(limits.request_timeout),
        timeout_graceful_shutdown=math.ceil(limits.stop_timeout),
        log_level=log_level,
        access_log=access_log,
    )
    return uvicorn.Server(config)


def listening(host: str, port: int) -> socket.socket:
    """Return a listening socket for this address; port 0 selects a free port.

    Raises:
        OSError: this machine does not have the address, or the port is in use.
    """
    place = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    # Connections inherit this option. Without it, a response body waits 40 ms until the client acknowledges the header.
    place.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return place


def run_until_stopped(app: Any, place: socket.socket, *, limits: Limits | None = None, quiet: bool = False) -> None:
    """Serve an application on a listening socket until SIGINT or SIGTERM; running requests are answered first.

    Requests are logged only if stdout is a terminal: a pipe that is not read would fill up and block the server.

    Raises:
        MissingPackageError: the packages of ``hgraph[serve]`` are not installed.
    """
    seen = not quiet and sys.stdout.isatty()
    server = server_of(app, limits, log_level="info" if seen else "error", access_log=seen)

    def stop(number: int, frame: Any) -> None:
        server.should_exit = True

    # uvicorn handles these signals itself, then raises them again; our handlers catch them, so there is no traceback
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[place])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        place.close()


def _request(columns: list[str], kinds: dict[str, str]) -> dict[str, Any]:
    """The body of a request, in the terms of OpenAPI."""
    values = {"numeric": {"type": ["number", "null"]}, "boolean": {"type": ["boolean", "string", "null"]}}
    row = {
        "type": "object",
        "required": columns,
        "properties": {name: values.get(kinds.get(name, "numeric"), {"type": ["string", "null"]}) for name in columns},
    }
    rows = {"type": "array", "items": row, "maxItems": _MOST_ROWS}
    schema = {"type": "object", "properties": {"rows": rows, "row": row, "proba": {"type": "boolean"}}}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _page(description: dict[str, Any]) -> str:
    """The OpenAPI description as a plain page, which needs no scripts of other hosts."""
    paths = []
    for path, methods in description["paths"].items():
        for method, about in methods.items():
            paths.append(f"<h2>{method.upper()} {html.escape(path)}</h2>")
            if "requestBody" in about:
                text = json.dumps(about["requestBody"]["content"]["application/json"]["schema"], indent=2)
                paths.append(f"<p>Body:</p><pre>{html.escape(text)}</pre>")
    title = html.escape(description["info"]["title"])
    more = '<p>Machine-readable: <a href="/openapi.json">/openapi.json</a></p>'
    head = f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
    return f"{head}<body><h1>{title}</h1>{more}{''.join(paths)}</body></html>"


def _rows(body: Any) -> tuple[list[Any], bool]:
    """The rows of a request, and whether all probabilities are asked for."""
    keys = set(body) - {"proba"} if isinstance(body, dict) else set()
    if len(keys) != 1 or not keys <= {"row", "rows"} or not isinstance(body.get("proba", False), bool):
        raise DataError('body: expected {"row": {...}} or {"rows": [{...}, ...]}, and "proba": true or false with it')
    rows = [body["row"]] if "row" in body else body["rows"]
    if not isinstance(rows, list) or len(rows) > _MOST_ROWS:
        raise DataError(f"rows: expected a list of at most {_MOST_ROWS} rows")
    return rows, body.get("proba", False)


def _columns(rows: list[Any], columns: list[str]) -> dict[str, list[Any]]:
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"row {i}: expected an object of columns, got {type(row).__name__}")
        for name in columns:
            if name not in row:
                raise DataError(f"row {i}: column {name!r} is missing; expected {columns[:20]}")
            if isinstance(row[name], (list, dict)):
                raise DataError(f"row {i}: column {name!r} must be one value, got {type(row[name]).__name__}")
    return {name: [row[name] for row in rows] for name in columns}
