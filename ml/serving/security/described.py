"""The OpenAPI document, as the door makes it true: which scope a route demands, and errors as problem documents alone."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from ml.serving.security.errors import MEDIA_TYPE
from ml.serving.security.scopes import scope_of

_OF_TOKENS, _OF_INPUT = ("401", "403"), ("400", "413", "422")


def describe_door(app: FastAPI) -> None:
    """Have ``app.openapi()`` tell it. The document is made once."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            for route in app.routes:
                if isinstance(route, APIRoute) and route.include_in_schema:
                    for method in route.methods:
                        _describe(document["paths"][route.path][method.lower()], scope_of(route))
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _describe(operation: dict[str, Any], scope: str | None) -> None:
    answers: dict[str, Any] = operation["responses"]
    if scope is not None:
        operation["security"] = [{"bearer": [scope]}]
    takes_nothing = not operation.get("requestBody") and not operation.get("parameters")
    for status in (*(_OF_TOKENS if scope is None else ()), *(_OF_INPUT if takes_nothing else ())):
        answers.pop(status, None)
    for answer in answers.values():
        content = answer.get("content", {})
        if MEDIA_TYPE in content:
            content.pop("application/json", None)
