"""What every answer carries, and the bounds of a request: whose host it names, how large it is, how long it may take."""

import asyncio
import logging
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.settings import Settings
from ml.serving.security.answers import send_problem
from ml.serving.security.errors import Problem

logger = logging.getLogger("cuff.serving")
_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
_NOTHING = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_PAGE = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    b"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_DATA_HEADERS = [*_ALWAYS, (b"cache-control", b"no-store"), (b"content-security-policy", _NOTHING)]
_PAGE_HEADERS = [*_ALWAYS, (b"cache-control", b"no-store"), (b"content-security-policy", _PAGE)]
_FILE_HEADERS = [*_ALWAYS, (b"cache-control", b"no-cache"), (b"content-security-policy", _NOTHING)]
_OVER_TLS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")


class SecurityHeaders:
    """Outermost. Nothing of an answer is kept by a browser or a proxy, framed, or run."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        more = [_OVER_TLS] if settings.serve_tls_certificate else []
        self._data, self._page, self._file = _DATA_HEADERS + more, _PAGE_HEADERS + more, _FILE_HEADERS + more

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        added = self._page if path == "/" else self._file if path.startswith("/static/") else self._data
        names = {name for name, _ in added}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [pair for pair in message.get("headers", ()) if pair[0].lower() not in names]
                message["headers"] = own + added
            await send(message)

        await self._app(scope, receive, send_with_headers)


class TrustedHosts:
    """Only requests for a host of ours: a page of another cannot point a browser's name at us."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = frozenset(trusted_hosts(settings))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "*" not in self._hosts:
            named = [value for name, value in scope["headers"] if name == b"host"]
            if len(named) != 1:
                await send_problem(send, 400, "a request names one host")
                return
            if _without_port(named[0].decode("latin-1").lower()) not in self._hosts:
                await send_problem(send, 421, "this is not the host that the request names")
                return
        await self._app(scope, receive, send)


class Bounds:
    """An answer that takes too long is a 503; an exception that nobody handled is a 500 that tells nothing, and of which
    only the kind is logged."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._seconds = settings.serve_request_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def send_noted(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                clock.reschedule(None)  # logging it has a time of its own
            await send(message)

        state: dict[str, Any] = scope.setdefault("state", {})
        clock = asyncio.timeout(self._seconds)
        try:
            async with clock:
                await self._app(scope, receive, send_noted)
        except Exception as error:
            # Its message, and its trace with it, may quote what was sent.
            logger.error("a request %s: %s", "took too long" if clock.expired() else "failed", type(error).__name__)
            if has_started:
                return
            state["predictions"] = ()
            if clock.expired():
                state["audit_outcome"] = "took too long"
                await send_problem(send, 503, "the answer took too long", {"retry-after": "1"})
            else:
                state["audit_outcome"] = type(error).__name__
                await send_problem(send, 500, "an internal error; it has been logged")


class BodyCap:
    """A body that is too large is a 413, also one that does not say how large it is. The rest of it is heard and dropped:
    closing on bytes that nobody read would reset the connection, and the client would not learn why."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._largest = settings.serve_max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit():
            await send_problem(send, 400, "the length of the body is no number")
            return
        if int(declared) > self._largest:
            await send_problem(send, 413, _too_large(self._largest))
            return
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._largest:
                raise Problem(413, _too_large(self._largest))
            return message

        await self._app(scope, receive_bounded, send)


def trusted_hosts(settings: Settings) -> list[str]:
    return [host.strip().lower() for host in settings.serve_trusted_hosts.split(",") if host.strip()]


def _too_large(largest: int) -> str:
    return f"the body is larger than {largest} bytes"


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
