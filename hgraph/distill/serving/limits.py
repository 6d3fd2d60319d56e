"""Limits of the local server: host names, body size, time per request and number of connections."""

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
    """Limits of a server.

    Args:
        hosts: host names that the server answers to. Other names are rejected, because a foreign web page can point
            its own host name at this machine (DNS rebinding).
        max_body: maximum size of a request body, in bytes.
        max_connections: maximum number of open connections; further ones are closed without an answer.
        request_timeout: seconds until a request must have arrived completely. An idle connection is closed after at
            most twice this time.
        stop_timeout: seconds that running requests may take to finish when the server stops.

    Raises:
        ArgumentError: a limit is not positive, or there is no host.
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
        object.__setattr__(self, "hosts", tuple(host.lower() for host in self.hosts))
        if not self.hosts:
            raise ArgumentError("hosts", "at least one host name", "none")

    def knows(self, host: str) -> bool:
        """Whether the server answers to this host name; a port after it is ignored."""
        found = re.fullmatch(r"\[([\da-fA-F:]+)\](:\d+)?|([\w.-]+)(:\d+)?", host)
        return found is not None and (found[1] or found[3]).lower().rstrip(".") in self.hosts


class Guard:
    """ASGI middleware that passes only complete requests within the limits to an application.

    Other requests get an error status with a message: 421 for an unknown host name, 403 for a request from a page of
    another site, 413 for a body that is too large, 408 for a request that does not arrive in time, and 415 for a body
    that is not declared as JSON.
    """

    def __init__(self, app: Any, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass a valid request to the application, or answer with an error."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(dict(scope["headers"]), scope.get("method", "GET"))
        body = b""
        if refusal is None:
            try:
                body = await asyncio.wait_for(self._body(receive), self.limits.request_timeout)
            except asyncio.TimeoutError:
                refusal = 408, f"the request did not arrive completely within {self.limits.request_timeout:g} s"
            except _TooLongError:
                refusal = 413, f"the body is larger than {self.limits.max_body} bytes; split it into several requests"
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
            return 421, f"unknown host name {host!r}; this server answers to {', '.join(self.limits.hosts)}"
        origin = headers.get(b"origin")
        if origin is not None and not self.limits.knows(_netloc(origin.decode("latin-1"))):
            return 403, "requests from pages of other sites are not answered"
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.limits.max_body:  # rejected before the body is read
            return 413, f"the body is larger than {self.limits.max_body} bytes; split it into several requests"
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


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


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
    """A uvicorn connection class that closes excess connections, and those that send no complete request header."""
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
            """Close the connection if no request has started since the last check and none is running."""
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
