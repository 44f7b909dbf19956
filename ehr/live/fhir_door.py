"""The FHIR door: POST /fhir, with the inbox and the promises of the MLLP listener; health, readiness and metrics."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.settings import Settings
from ehr.live.check import Checker
from ehr.live.group_commit import GroupCommit
from ehr.live.inbox import Received, Stored
from ehr.live.json_depth import depth_exceeds
from ehr.live.metrics import ACKNOWLEDGE_SECONDS, ACKNOWLEDGED, MESSAGES_RECEIVED, exposition
from ehr.live.resource_check import judge_resource
from ehr.sources import DEFAULT_SOURCE, Source

_JSON = frozenset({"application/fhir+json", "application/json", "text/json"})
_FHIR_JSON = "application/fhir+json"
_RETRY_SECONDS = "5"
_MUCH_BYTES = 64 << 10  # is judged in a thread
_LOAD_BYTES = 128 << 20
IsReady = Callable[[], dict[str, str]]


def fhir_app(settings: Settings, checker: Checker, commit: GroupCommit, is_ready: IsReady) -> Starlette:
    """The ASGI application. ``is_ready`` names what is not ready, and why; it is called in a thread."""
    door = _FhirDoor(settings, checker, commit)

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(_request: Request) -> Response:
        missing = await asyncio.to_thread(is_ready)
        document = {"status": "not ready" if missing else "ready", "missing": missing}
        return JSONResponse(document, 503 if missing else 200)

    async def metrics(_request: Request) -> Response:
        return Response(exposition(), media_type="text/plain; version=0.0.4")

    return Starlette(routes=[
        Route("/fhir", door.post, methods=["POST"]), Route("/healthz", health), Route("/readyz", ready),
        Route("/metrics", metrics),
    ])  # fmt: skip


class _FhirDoor:
    def __init__(self, settings: Settings, checker: Checker, commit: GroupCommit) -> None:
        self._settings, self._checker, self._commit = settings, checker, commit
        self._held = 0  # bytes of bodies that are not answered yet
        self._most_held = max(_LOAD_BYTES, 2 * settings.fhir_max_body_bytes)

    async def post(self, request: Request) -> Response:
        began = time.perf_counter()
        response = await self._answer(request)
        ACKNOWLEDGED.labels(str(response.status_code)).inc()
        ACKNOWLEDGE_SECONDS.observe(time.perf_counter() - began)
        return response

    async def _answer(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and kind not in _JSON:
            return _outcome(415, "not-supported", "send application/fhir+json; XML and others are not taken")
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            return _outcome(415, "not-supported", "send the body as it is, without Content-Encoding")
        source = self._source(request)
        if isinstance(source, Response):
            return source
        body = bytearray()
        try:
            refused = await self._receive(request, body)
            return refused or await self._take(bytes(body), source)
        finally:
            self._held -= len(body)

    async def _take(self, body: bytes, source: Source) -> Response:
        if not body.strip():
            # A rest-hook without content asks whether anybody listens.
            return Response(status_code=200)
        judging = partial(self._judge, body, source)
        received = await asyncio.to_thread(judging) if len(body) > _MUCH_BYTES else judging()
        if received is None:
            return _outcome(400, "too-costly", f"JSON deeper than {self._settings.fhir_max_depth} levels is not taken")
        MESSAGES_RECEIVED.labels("http", source.source_id).inc()
        stored = await self._stored(received)
        if stored is None:
            return _outcome(503, "transient", "the resource cannot be stored now; send it again",
                            {"Retry-After": _RETRY_SECONDS})  # fmt: skip
        if stored.reject is not None:
            return _outcome(422, "invalid", f"{stored.reject.reason_code} at {stored.reject.locator}: {stored.reject.detail}; "
                            "it is kept in quarantine")  # fmt: skip
        if stored.outcome == "repeated":
            return _outcome(200, "informational", "stored before; nothing was added", severity="information")
        return _outcome(202, "informational", "stored; it will be landed", severity="information")

    def _judge(self, body: bytes, source: Source) -> Received | None:
        if depth_exceeds(body, self._settings.fhir_max_depth):
            return None
        return judge_resource(body, source, pseudonym_key=self._checker.pseudonym_key)

    def _source(self, request: Request) -> Source | Response:
        """The source that the client says it is, or that its certificate is bound to."""
        sources = self._checker.sources
        names: frozenset[str] | None = getattr(request.state, "peer_names", None)
        named = request.query_params.get("source") or request.headers.get("x-cuff-source")
        if named is not None and named not in sources:
            return _outcome(400, "not-found", "the source named by `source` or X-Cuff-Source is not declared")
        if names is None:
            return sources[named or DEFAULT_SOURCE]
        bound = [source for source in sources.values() if names & set(source.client_certificates)]
        chosen = [source for source in bound if named in (None, source.source_id)]
        if len(chosen) != 1:
            return _outcome(403, "forbidden", "the client's certificate is not bound to one such source")
        return chosen[0]

    async def _receive(self, request: Request, body: bytearray) -> Response | None:
        """Fill ``body``; the answer, where it is not taken."""
        limit = self._settings.fhir_max_body_bytes
        too_large = _outcome(413, "too-long", f"a body over {limit} bytes is not taken; send smaller bundles")
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            return too_large
        try:
            async with asyncio.timeout(self._settings.mllp_read_seconds):
                async for piece in request.stream():
                    body += piece
                    self._held += len(piece)
                    if len(body) > limit:
                        return too_large
                    if self._held > self._most_held and len(body) > _MUCH_BYTES:
                        return _outcome(503, "throttled", "too much arrives at once; send it again",
                                        {"Retry-After": _RETRY_SECONDS})  # fmt: skip
        except TimeoutError:
            return _outcome(408, "timeout", "the body did not arrive in time")
        except ClientDisconnect:
            return Response(status_code=400)
        return None

    async def _stored(self, received: Received) -> Stored | None:
        answered: asyncio.Future[Stored | None] = asyncio.get_running_loop().create_future()

        def answer(stored: Stored | None) -> None:
            if not answered.done():
                answered.set_result(stored)

        self._commit.submit(received, answer)
        return await answered


def _outcome(status: int, code: str, text: str, headers: dict[str, str] | None = None, severity: str = "error") -> Response:
    """A FHIR OperationOutcome; ``text`` is ours and never quotes what was sent."""
    document: dict[str, Any] = {"resourceType": "OperationOutcome",
                                "issue": [{"severity": severity, "code": code, "diagnostics": text}]}  # fmt: skip
    return Response(orjson.dumps(document), status, headers, media_type=_FHIR_JSON)
