"""The inference API, put together: what it holds while it runs, its routes, and the door in front of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from core.keys import key_bytes
from core.settings import Settings
from ml.features.online import OnlineFeatures
from ml.serving import fhir_answer, operations, routes_cds, routes_model, routes_page, routes_risk
from ml.serving.batcher import Scorer
from ml.serving.journal import Journal
from ml.serving.security.door import secure
from ml.serving.security.errors import responses
from ml.serving.security.startup import refuse_defaults
from ml.serving.security.tokens import Tokens
from ml.serving.served_champion import ServedChampion

_ABOUT = """The risk of hypertension within 12 months, as the model was trained to say it: from the same features, with its
reasons, its age of every input, and a record of every answer. Every route but the probes and the page needs a bearer token."""


def create_app(settings: Settings, worker: int = 0) -> FastAPI:
    """The application; what it holds is opened when it starts to serve. ``worker``: the number of this one among several.

    Errors: `ConfigurationError` outside development with defaults that are known to everybody, and for a route that
    declares no scope.
    """
    refuse_defaults(settings)
    app = FastAPI(
        title="Cuff inference API", version=version("cuff"), summary="Risk of hypertension within 12 months",
        description=_ABOUT, docs_url=None, redoc_url=None, lifespan=_serving, responses=responses(401, 403, 413, 422, 429, 503),
        redirect_slashes=False,
    )  # fmt: skip
    app.state.settings, app.state.worker = settings, worker
    app.state.archive_key = key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY")
    app.state.described = {}
    for routes in (routes_risk, routes_model, routes_cds, routes_page, operations):
        app.include_router(routes.router)
    app.mount("/static", StaticFiles(directory=routes_page.STATIC), name="static")
    secure(app, settings)
    app.add_middleware(operations.Measured)
    return app


@asynccontextmanager
async def _serving(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    state = app.state
    state.features = OnlineFeatures(settings)
    state.journal, state.tokens = Journal(settings), Tokens(settings)
    state.champion = ServedChampion(settings, tells=state.worker == 0)
    state.scorer = Scorer(state.champion, state.features)
    fhir_answer.prepare()
    await state.champion.start()
    try:
        yield
    finally:
        await state.champion.stop()
        state.scorer.close()
        state.journal.close()
