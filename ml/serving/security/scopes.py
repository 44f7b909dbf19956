"""Authorisation by dependency, per route, deny by default: a route without a declared scope keeps the API from starting."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.models import HTTPBearer as BearerModel
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase
from starlette.requests import Request
from starlette.routing import Mount, Route

from ml.serving.security.errors import Problem
from ml.serving.security.tokens import SCOPES, Client

# What anybody may read: no patient's data is behind it. GET only.
PUBLIC = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/cds-services"})
PUBLIC_FOLDERS = frozenset({"/static"})


class RequireScope(SecurityBase):
    """Dependency of a route: the client that `Doorkeeper` made of the token, if its token grants ``scope``."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.model = BearerModel(
            bearerFormat="JWT", description="OAuth2 access token; scopes: " + ", ".join(sorted(SCOPES))
        )
        self.scheme_name = "bearer"

    async def __call__(self, request: Request) -> Client:
        client: Client | None = getattr(request.state, "client", None)
        if (problem := refusal(client, getattr(request.state, "token_fault", ""), self.scope)) is not None:
            raise problem
        assert client is not None
        return client


def refusal(client: Client | None, fault: str, scope: str) -> Problem | None:
    """Why this client may not do what demands ``scope``; None where it may. ``fault``: why there is no client, '' where no
    token was shown."""
    if client is None:
        challenge = f'Bearer error="invalid_token", error_description="{fault}"' if fault else "Bearer"
        return Problem(401, fault or "a bearer token is required", outcome=fault or "no token",
                       headers={"WWW-Authenticate": challenge})  # fmt: skip
    if scope not in client.scopes:
        return Problem(403, f"the token does not grant {scope}", outcome=f"{scope} not granted",
                       headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'})  # fmt: skip
    return None


@cache
def require(scope: str) -> RequireScope:
    """``Annotated[Client, Depends(require("risk:read"))]``. Errors: `ValueError` for a scope that does not exist."""
    if scope not in SCOPES:
        raise ValueError(f"there is no scope '{scope}'; there are {', '.join(sorted(SCOPES))}")
    return RequireScope(scope)


def scope_of(route: APIRoute) -> str | None:
    """The scope that a route demands, None where it demands none."""
    return next(_scopes_of(route.dependant), None)


def undeclared_routes(app: FastAPI) -> list[str]:
    """Routes that neither demand a scope nor are public: there must be none."""
    return [f"{sorted(getattr(route, 'methods', None) or ['*'])} {getattr(route, 'path', route)}"
            for route in app.routes if not _is_declared(route)]  # fmt: skip


def _is_declared(route: Any) -> bool:
    if isinstance(route, Mount):
        return route.path in PUBLIC_FOLDERS
    if isinstance(route, APIRoute) and scope_of(route) is not None:
        return True
    is_reading = isinstance(route, Route) and (route.methods or set()) <= {"GET", "HEAD"}
    return is_reading and route.path in PUBLIC


def _scopes_of(dependant: Any) -> Iterator[str]:
    if isinstance(dependant.call, RequireScope):
        yield dependant.call.scope
    for inner in dependant.dependencies:
        yield from _scopes_of(inner)
