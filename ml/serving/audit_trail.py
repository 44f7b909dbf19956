"""The audit trail: one row for each answered request, refusals among them, committed before the answer's first byte."""

import logging
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.audit import AuditRow
from ml.serving.security.errors import MEDIA_TYPE, problem_body

logger = logging.getLogger("cuff.serving")
_EXEMPT = frozenset({"/healthz", "/readyz"})  # they read nobody's data
_EXEMPT_FOLDER = "/static/"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LONGEST = 160
_UNAVAILABLE = problem_body(503, "the request cannot be logged, so it is not answered")
_UNAVAILABLE_START: Message = {
    "type": "http.response.start",
    "status": 503,
    "headers": [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(_UNAVAILABLE)).encode()),
                (b"retry-after", b"1")],
}  # fmt: skip


class AuditTrail:
    """Pure ASGI, around everything that may answer. Handlers say more in ``request.state``: ``audit_action``,
    ``audit_subject``, ``audit_outcome`` (behind the status), ``predictions`` (rows of `ServedPrediction`)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._known_paths: frozenset[str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _EXEMPT or scope["path"].startswith(_EXEMPT_FOLDER):
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        is_refused = False

        async def send_once_logged(message: Message) -> None:
            nonlocal is_refused
            if message["type"] == "http.response.start":
                try:
                    await scope["app"].state.journal.write(
                        self._row(scope, state, message["status"]), state.get("predictions", ())
                    )
                except Exception as error:
                    logger.error("a request is refused, as it cannot be logged: %s", type(error).__name__)
                    is_refused = True
                    await send({**_UNAVAILABLE_START, "headers": list(_UNAVAILABLE_START["headers"])})
                    await send(
                        {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else _UNAVAILABLE}
                    )
            if not is_refused:
                await send(message)

        await self._app(scope, receive, send_once_logged)

    def _row(self, scope: Scope, state: dict[str, Any], status: int) -> AuditRow:
        client = state.get("client")
        peer = scope.get("client")
        actor = client.name if client is not None else f"anonymous {peer[0] if peer else 'unknown'}"
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        action = state.get("audit_action") or f"{method} {self._address(scope)}"
        outcome = f"{status} {state.get('audit_outcome', '')}".rstrip()
        return AuditRow(_plain(actor), _plain(action), _plain(state.get("audit_subject") or "-"), _plain(outcome))

    def _address(self, scope: Scope) -> str:
        """An address of ours; one that we do not have may hold anything."""
        route = scope.get("route")
        if route is not None and getattr(route, "path", None):
            return str(route.path)
        if self._known_paths is None:
            paths = (getattr(route, "path", "") for route in scope["app"].routes)
            self._known_paths = frozenset(path for path in paths if "{" not in path)
        return scope["path"] if scope["path"] in self._known_paths else "unknown address"


def _plain(text: str) -> str:
    """Printable ASCII of a bounded length: any database takes it, and no reader of the trail can be misled by it."""
    if len(text) <= _LONGEST and text.isascii() and text.isprintable():
        return text
    return "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in text[:_LONGEST])
