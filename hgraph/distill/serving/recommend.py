"""Serve a recommender over HTTP: ``POST /recommend`` ranks the items of a user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hgraph.distill.serving.limits import Guard, Limits
from hgraph.errors import ArgumentError, DataError, MissingPackageError

__all__ = ["recommendations"]

Ranked = list[tuple[str, float]]
_MOST = 1000  # items per request


def recommendations(rank: Callable[[str, int], Ranked], about: dict[str, Any], limits: Limits | None = None) -> Any:
    """A FastAPI application that recommends items, for any ASGI server.

    ``POST /recommend`` takes ``{"user": name, "k": number}`` (k is 10 by default) and answers ``{"user": name, "items":
    [{"item": name, "score": number}, ...]}``; an unknown user or a wrong body is answered with status 422 and a message
    that says what is wrong. ``GET /`` returns ``about``, ``GET /health`` returns ``{"status": "ok"}``.

    Args:
        rank: the best k items of a user by name, with their scores; raises an `ArgumentError` for an unknown user.
        about: the description that ``GET /`` returns.
        limits: limits of requests, see `Limits`.

    Raises:
        MissingPackageError: the packages of ``hgraph[serve]`` are not installed.
    """
    try:
        from fastapi import Body, FastAPI, HTTPException
    except ImportError as error:
        raise MissingPackageError("fastapi", "serve", "serving a recommender") from error

    app = FastAPI(title="hgraph recommender", docs_url=None, redoc_url=None)

    @app.get("/")
    def what() -> dict[str, Any]:
        return about

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/recommend")
    def recommend(body: Any = Body()) -> dict[str, Any]:
        try:
            user, k = _asked(body)
        except DataError as error:
            raise HTTPException(422, str(error)) from None
        try:
            items = rank(user, k)
        except ArgumentError:  # its message suggests other names, which a client must not learn
            raise HTTPException(422, f"user: unknown user {user[:100]!r}") from None
        return {"user": user, "items": [{"item": name, "score": score} for name, score in items]}

    # FastAPI resolves annotations by name, which fails for names that are local to this function
    for function in (what, recommend):
        function.__annotations__ = {"return": dict[str, Any]}
    recommend.__annotations__["body"] = Any
    return Guard(app, limits or Limits())


def _asked(body: Any) -> tuple[str, int]:
    """The user and the number of items of a request."""
    fits = isinstance(body, dict) and {"user"} <= set(body) <= {"user", "k"} and isinstance(body["user"], (str, int))
    if not fits or isinstance(body["user"], bool):
        raise DataError('body: expected {"user": NAME}, optionally with "k": NUMBER')
    k = body.get("k", 10)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= _MOST:
        raise DataError(f"k: expected a whole number in 1 .. {_MOST:,}, got {k!r:.40}")
    return str(body["user"]), k
