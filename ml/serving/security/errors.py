"""Every error as RFC 9457's ``application/problem+json``: a field and a reason, never a value, never a stack."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from core.errors import ConfigurationError, CuffError, InputError

logger = logging.getLogger("cuff.serving")
MEDIA_TYPE = "application/problem+json"
_TITLES = {
    400: "Bad request", 401: "Not authenticated", 403: "Not allowed", 404: "Not found", 405: "Method not allowed",
    406: "Not acceptable", 413: "Body too large", 415: "Unsupported media type", 421: "Misdirected request",
    422: "Not valid", 429: "Too many requests", 500: "Internal error", 503: "Unavailable",
}  # fmt: skip
_DETAILS = {
    404: "there is nothing at this address", 405: "this address does not take this method",
    400: "the body cannot be read as JSON",
}  # fmt: skip
_STATUSES: tuple[tuple[type[CuffError], int], ...] = ((InputError, 422), (ConfigurationError, 500), (CuffError, 503))
# pydantic's messages that speak of the rule alone. Others quote what they were given: tags of unions, parts of UUIDs.
_SAFE_MESSAGES = {
    "missing", "extra_forbidden", "greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of",
    "finite_number", "int_type", "int_parsing", "int_from_float", "float_type", "float_parsing", "bool_type", "bool_parsing",
    "string_type", "string_too_short", "string_too_long", "string_pattern_mismatch", "literal_error", "enum", "list_type",
    "dict_type", "too_short", "too_long", "model_type", "model_attributes_type", "json_invalid", "none_required",
}  # fmt: skip
_OUR_MESSAGES = "cuff_"  # a `PydanticCustomError` of this kind may speak: its author knows this rule
_PLACES = frozenset({"body", "query", "path", "header", "cookie"})


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    reason: str


class ProblemDocument(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


class Problem(HTTPException):
    """An answer that is an error. ``detail`` and ``outcome`` are our own words, never a value of the request's."""

    def __init__(
        self, status: int, detail: str, *, outcome: str = "", errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(status, detail, dict(headers or {}))
        self.errors = list(errors)
        self.outcome = outcome  # for the audit row, where the status alone says too little


def problem_body(status: int, detail: str, errors: Sequence[Mapping[str, str]] = ()) -> bytes:
    document = {"type": "about:blank", "title": _TITLES.get(status, "Error"), "status": status, "detail": detail,
                "errors": list(errors)}  # fmt: skip
    return orjson.dumps(document)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's ``responses``: its errors as the OpenAPI document tells of them."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {
        status: {"model": ProblemDocument, "description": _TITLES[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def install_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(CuffError, _ours)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    is_ours = isinstance(error, Problem)
    if is_ours and error.outcome:  # type: ignore[attr-defined]
        request.state.audit_outcome = error.outcome  # type: ignore[attr-defined]
    # Others' details are not trusted: frameworks like to repeat what they were sent.
    detail = error.detail if is_ours else _DETAILS.get(error.status_code, _TITLES.get(error.status_code, "refused"))
    return _answer(error.status_code, detail, getattr(error, "errors", ()), error.headers)


async def _not_valid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        return _answer(400, _DETAILS[400])
    names = _known_names(request.app)
    errors = [{"field": _field(one["loc"], names), "reason": _reason(one)} for one in found[:100]]
    return _answer(422, "the request does not keep to its schema", errors)


async def _ours(_request: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUSES if isinstance(error, kind))
    logger.error("a request failed: %s", type(error).__name__)
    return _answer(status, "the request cannot be used" if status == 422 else "the service cannot answer now")


def _answer(
    status: int, detail: str, errors: Sequence[Mapping[str, str]] = (), headers: Mapping[str, str] | None = None
) -> Response:
    return Response(problem_body(status, detail, errors), status, dict(headers or {}), MEDIA_TYPE)


def _reason(error: Mapping[str, Any]) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return "There is no such field"
    if kind in _SAFE_MESSAGES or kind.startswith(_OUR_MESSAGES):
        return str(error["msg"])
    return "Input is not valid"


def _field(location: Sequence[Any], names: frozenset[str]) -> str:
    """Where it is, in names of ours and positions: a name that we do not know is a value of the request's."""
    return ".".join(str(part) if isinstance(part, int) or part in names else "?" for part in location) or "body"


def _known_names(app: FastAPI) -> frozenset[str]:
    names: frozenset[str] | None = getattr(app.state, "problem_names", None)
    if names is None:
        document = app.openapi()
        found = set(_PLACES)
        for schema in document.get("components", {}).get("schemas", {}).values():
            found.update(schema.get("properties", ()))
        for path in document.get("paths", {}).values():
            for operation in path.values():
                found.update(parameter["name"] for parameter in operation.get("parameters", ()))
        names = app.state.problem_names = frozenset(found)
    return names
