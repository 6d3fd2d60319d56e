"""What a server on a user's own machine lets in: from whom, how much, for how long, and from how many."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from hgraph.errors import ArgumentError

__all__ = ["Guard", "Limits", "watched"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Args:
        hosts: names by which the server may be called. A web page elsewhere reaches a server on this machine by a name
            of its own that leads here (DNS rebinding); it is refused for that name.
        max_body: bytes of a request's body.
        max_connections: open at once; more are closed unanswered.
        request_timeout: seconds in which a request must have arrived whole. A connection may be silent for up to
            twice as long.
        stop_timeout: seconds that requests under way get when the server is told to stop.

    Raises:
        ArgumentError: a bound that is not positive, or no host.
    """

    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    max_body: int = 16 * 2**20
    max_connections: int = 100
    request_timeout: float = 10.0
    stop_timeout: float = 10.0

    def __post_init__(self) -> None:
        for name in ("max_body", "max_connections", "request_timeout", "stop_timeout"):
            if not getattr(self, name) > 0:
                raise ArgumentError(name, "a positive number", getattr(self, name))
        if not self.hosts:
            raise ArgumentError("hosts", "at least one name", "none")

    def knows(self, host: str) -> bool:
        """Whether the server may be called by this name, a port after it or not."""
        found = re.fullmatch(r"\[([\da-fA-F:]+)\](:\d+)?|([\w.-]+)(:\d+)?", host)
        return found is not None and (found[1] or found[3]).lower().rstrip(".") in self.hosts


class Guard:
    """An ASGI application that lets another see only requests within limits, whole.

    A request for another host is answered with 421, one from another site's page with 403, a body that is too long
    with 413, one that does not arrive in time with 408, and one that does not say it is JSON with 415, each with a
    sentence.
    """

    def __init__(self, app: Any, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(dict(scope["headers"]), scope.get("method", "GET"))
        body = b""
        if refusal is None:
            try:
                body = await asyncio.wait_for(self._body(receive), self.limits.request_timeout)
            except asyncio.TimeoutError:
                refusal = 408, f"the request did not arrive whole within {self.limits.request_timeout:g} s"
            except _TooLongError:
                refusal = 413, f"the body is longer than {self.limits.max_body} bytes; send several requests"
            except _GoneError:
                return
        if refusal is not None:
            await _answer(send, *refusal)
            return
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def whole() -> Message:
            return messages.pop() if messages else await receive()

        await self.app(scope, whole, send)

    def _refusal(self, headers: dict[bytes, bytes], method: str) -> tuple[int, str] | None:
        host = headers.get(b"host", b"").decode("latin-1")
        if not self.limits.knows(host):
            return 421, f"this server is not {host or 'without a name'!r}; it answers to {', '.join(self.limits.hosts)}"
        origin = headers.get(b"origin")
        if origin is not None and not self.limits.knows(urlsplit(origin.decode("latin-1")).netloc):
            return 403, "requests from pages of other sites are not answered"
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.limits.max_body:  # before any of it is read
            return 413, f"the body is longer than {self.limits.max_body} bytes; send several requests"
        kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        if method == "POST" and kind != "application/json":
            return 415, f"expected the header Content-Type: application/json, got {kind or 'none'}"
        return None

    async def _body(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            body += message.get("body", b"")
            if len(body) > self.limits.max_body:
                raise _TooLongError
            if not message.get("more_body", False):
                return bytes(body)


class _TooLongError(Exception):
    pass


class _GoneError(Exception):
    pass


async def _answer(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def watched(limits: Limits) -> Any:
    """uvicorn's protocol of a connection, which closes those that are too many, or that send no whole request head."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Watched(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._seen: Any = None
            if len(self.connections) > limits.max_connections:
                transport.abort()
            else:
                self._watch()

        def _watch(self) -> None:
            self._timer = self.loop.call_later(limits.request_timeout, self._look)

        def _look(self) -> None:
            """Close the connection if no request began since the last look and none is under way."""
            if self.transport.is_closing():
                return
            if self.cycle is self._seen and (self.cycle is None or self.cycle.response_complete):
                self.transport.abort()
                return
            self._seen = self.cycle
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            if hasattr(self, "_timer"):
                self._timer.cancel()
            super().connection_lost(exc)

    return Watched
