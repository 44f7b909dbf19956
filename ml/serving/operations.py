"""For whoever runs the API: is it alive, may it be asked, what does it count."""

import asyncio
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ml.serving.metrics import REQUEST_SECONDS, REQUESTS, exposition
from ml.serving.security.scopes import require
from ml.serving.security.tokens import Client

router = APIRouter(tags=["operations"])
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Health(BaseModel):
    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """Ready when all of it is true."""

    is_ready: bool
    model_loaded: bool
    store_reachable: bool
    audit_writable: bool
    model_version: int | None


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready: see which is false"}})
async def readyz(request: Request, response: Response) -> Readiness:
    """A model is loaded, the feature store can be read, the audit trail can be written."""
    state = request.app.state
    served = state.champion.current
    is_reachable = await asyncio.to_thread(state.features.is_reachable)
    told = Readiness(
        is_ready=served is not None and is_reachable and state.journal.is_writable(), model_loaded=served is not None,
        store_reachable=is_reachable, audit_writable=state.journal.is_writable(),
        model_version=served.version if served is not None else None)  # fmt: skip
    response.status_code = 200 if told.is_ready else 503
    return told


@router.get("/metrics", response_class=Response, responses={200: {"content": {_TEXT: {"schema": {"type": "string"}}}}})
async def metrics(_client: Annotated[Client, Depends(require("ops:read"))]) -> Response:
    """Prometheus' text format, of all workers together."""
    return Response(await asyncio.to_thread(exposition), media_type=_TEXT)


class Measured:
    """Pure ASGI: counts answers by route and status, and how long they took."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._children: dict[tuple[str, int], tuple[Any, Any]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def send_measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", None) or "no route"
                counted = self._children.get((route, message["status"]))
                if counted is None:
                    counted = self._children[route, message["status"]] = (
                        REQUESTS.labels(route, str(message["status"])), REQUEST_SECONDS.labels(route))
                counted[0].inc()
                counted[1].observe(time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, send_measured)
