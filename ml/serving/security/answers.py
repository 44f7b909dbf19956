"""A problem document from below the framework: for refusals before a route is found, and after one failed."""

from collections.abc import Mapping

from starlette.types import Send

from ml.serving.security.errors import MEDIA_TYPE, problem_body


async def send_problem(send: Send, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
    body = problem_body(status, detail)
    named = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **(headers or {})}
    await send({"type": "http.response.start", "status": status,
                "headers": [(name.encode(), value.encode("latin-1")) for name, value in named.items()]})  # fmt: skip
    await send({"type": "http.response.body", "body": body})
