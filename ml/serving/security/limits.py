"""The doorkeeper: who asks, and whether it asks too often, before anything else of a request is looked at."""

import math
import time

from fastapi.routing import APIRoute
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from core.errors import ConfigurationError
from core.settings import Settings
from ml.serving.security.answers import send_problem
from ml.serving.security.errors import Problem
from ml.serving.security.issuer_keys import KeysUnavailable
from ml.serving.security.scopes import refusal, scope_of
from ml.serving.security.tokens import Client, TokenRefused

_NOT_COUNTED = frozenset({"/healthz", "/readyz"})


class Doorkeeper:
    """Pure ASGI. Puts ``client`` (or ``token_fault``, why there is none) into the request's state, for `scopes.require`. What
    that would refuse it refuses already, before a body is read. A client has its own limit, everybody else one for their
    address; each worker counts alone."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._limit = rate_limit(settings)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._demands: dict[tuple[str, str], tuple[APIRoute, str]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        try:
            client, fault = await _client_of(scope)
        except KeysUnavailable:
            state["audit_outcome"] = "no keys to check tokens"
            await send_problem(send, 503, "tokens cannot be checked now", {"retry-after": "5"})
            return
        state["client"], state["token_fault"] = client, fault
        if scope["path"] not in _NOT_COUNTED:
            counted = ("client", client.name) if client is not None else ("address", _address(scope))
            if not self._limiter.hit(self._limit, *counted):
                reset_at, _ = self._limiter.get_window_stats(self._limit, *counted)
                seconds = max(1, math.ceil(reset_at - time.time()))
                state["audit_outcome"] = "too many requests"
                await send_problem(send, 429, "too many requests; wait and try again", {"retry-after": str(seconds)})
                return
        if (problem := self._refusal(scope, client, fault)) is not None:
            state["audit_outcome"] = problem.outcome
            await send_problem(send, problem.status_code, str(problem.detail), problem.headers)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, client: Client | None, fault: str) -> Problem | None:
        if self._demands is None:
            self._demands = {(route.path, method): (route, demanded) for route in scope["app"].routes
                             if isinstance(route, APIRoute) and (demanded := scope_of(route)) is not None
                             for method in route.methods}  # fmt: skip
        route, demanded = self._demands.get((scope["path"], scope["method"]), (None, ""))
        if route is None:
            return None
        scope["route"] = route  # for whoever counts
        return refusal(client, fault, demanded)


def rate_limit(settings: Settings) -> RateLimitItem:
    """Errors: `ConfigurationError` for one that `limits` cannot read."""
    try:
        return parse(settings.serve_rate_limit)
    except ValueError:
        raise ConfigurationError("CUFF_SERVE_RATE_LIMIT is no rate limit; write e.g. 6000/minute") from None


async def _client_of(scope: Scope) -> tuple[Client | None, str]:
    """The client, or why there is none: '' where no token was shown."""
    shown = [value for name, value in scope["headers"] if name == b"authorization"]
    if not shown:
        return None, ""
    if len(shown) > 1:
        return None, "more than one token was shown"
    kind, _, token = shown[0].decode("latin-1").partition(" ")
    if kind.lower() != "bearer":
        return None, "a bearer token is required"
    try:
        return await scope["app"].state.tokens.client_of(token.strip()), ""
    except TokenRefused as refused:
        return None, str(refused)


def _address(scope: Scope) -> str:
    peer = scope.get("client")
    return peer[0] if peer else "unknown"
