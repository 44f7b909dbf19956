"""Which model answers, how good it was, and its card."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from core.errors import ModelError
from core.settings import Settings
from ml.serving.security.errors import responses
from ml.serving.security.scopes import require
from ml.serving.security.tokens import Client
from ml.serving.served_champion import Served
from ml.tracking import MODEL_NAME, mlflow_client

router = APIRouter(tags=["model"])
DESCRIBES = "describe_model"


class ModelDescription(BaseModel):
    """The champion, as it was registered."""

    name: str
    version: int
    registered_tags: dict[str, str] = Field(description="snapshot, build, definition hashes, commit, digest")
    training_window: dict[str, str] = Field(description="Which landmarks were trained on, calibrated on and tested on")
    metrics: dict[str, float]
    model_card: str = Field(description="Markdown")


@router.get("/v1/model", operation_id=DESCRIBES, responses=responses(503))
async def model(
    request: Request, _client: Annotated[Client, Depends(require("model:read"))]
) -> ModelDescription:
    """The champion that answers now."""
    state = request.app.state
    served = state.champion.current
    if served is None:
        raise ModelError("there is no champion to describe")
    described: dict[int, ModelDescription] = state.described
    if served.version not in described:
        described.clear()
        described[served.version] = await asyncio.to_thread(_describe, state.settings, served)
    return described[served.version]


def _describe(settings: Settings, served: Served) -> ModelDescription:
    import mlflow

    run: Any = mlflow_client(settings).get_run(served.run_id)
    window = {name.removeprefix("landmarks_"): value for name, value in run.data.params.items()
              if name.startswith("landmarks_")}  # fmt: skip
    try:
        card = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/report/model_card.md")
    except Exception:  # the store of artifacts is away, or the card was never written
        card = ""
    return ModelDescription(name=MODEL_NAME, version=served.version, registered_tags=served.tags, training_window=window,
                            metrics=dict(run.data.metrics), model_card=card)
