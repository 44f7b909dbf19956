"""A route whose body is JSON: another kind is told so, instead of that it lacks every field."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from ml.serving.security.errors import Problem


class JsonRoute(APIRoute):
    """Give it to a router as ``route_class``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def handle(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
                raise Problem(415, "the body must be JSON; say so in Content-Type: application/json")
            return await handler(request)

        return handle
