"""A small API of the tests behind the real door: real tokens, a real journal, routes that do what routes may do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal
from uuid import uuid4

import httpx
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from core.settings import Settings
from core.store import utc_now
from ml.serving.journal import Journal
from ml.serving.security.development import issue
from ml.serving.security.door import secure
from ml.serving.security.errors import responses
from ml.serving.security.scopes import require
from ml.serving.security.tokens import SCOPES, Client, Tokens

HOST = "http://127.0.0.1"


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    systolic_mmhg: Annotated[float, Field(ge=40, lt=300)]
    sex: Literal["female", "male"] = "female"
    reference: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]*$", max_length=64)] = ""


def small_app(settings: Settings) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, responses=responses(401, 403, 422))
    app.state.settings = settings

    @app.get("/healthz")
    async def healthz() -> dict[str, bool]:
        return {"alive": True}

    @app.get("/v1/model")
    async def model(_client: Annotated[Client, Depends(require("model:read"))]) -> dict[str, str]:
        return {"name": "small"}

    @app.post("/v1/risk")
    async def risk(
        request: Request, _person: Person, client: Annotated[Client, Depends(require("risk:read"))]
    ) -> dict[str, int]:
        request.state.audit_subject = "0" * 32
        request.state.predictions = [prediction(client.name, uuid4().hex)]
        return {"risk": 1}

    @app.post("/v1/risk/score")
    async def score(person: Person, _client: Annotated[Client, Depends(require("risk:score"))]) -> dict[str, int]:
        raise RuntimeError(f"{person.reference} is what an exception may quote")

    @app.get("/metrics")
    async def slow(_client: Annotated[Client, Depends(require("ops:read"))]) -> dict[str, int]:
        await asyncio.sleep(60)
        return {}

    return app


def secured(settings: Settings) -> FastAPI:
    app = small_app(settings)
    secure(app, settings)
    return app


def prediction(client: str, prediction_id: str) -> dict[str, object]:
    return {
        "prediction_id": prediction_id, "served_at": utc_now(), "client": client, "source": "given", "patient_key": None,
        "feature_date": None, "build_id": None, "clinical_snapshot": None, "model_version": 1, "risk": 0.25, "band": "low",
        "features_sealed": b"sealed",
    }  # fmt: skip


@asynccontextmanager
async def running(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app with its journal open; answers are what the app says, exceptions included."""
    app.state.journal, app.state.tokens = Journal(settings), Tokens(settings)
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST) as client:
            yield client
    finally:
        app.state.journal.close()


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app that opens what it needs by itself, as the real one does."""
    async with app.router.lifespan_context(app), httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url=HOST
    ) as client:
        yield client


def bearer(settings: Settings, *scopes: str, **options: object) -> dict[str, str]:
    token = issue(settings, scopes or tuple(SCOPES), **options)  # type: ignore[arg-type]
    return {"Authorization": f"Bearer {token}"}


