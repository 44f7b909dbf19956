"""/healthz, /readyz and /metrics of a process without an HTTP door of its own, served in a thread."""

import json
import logging
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from ehr.live.metrics import exposition

logger = logging.getLogger("cuff.live")
IsReady = Callable[[], dict[str, str]]


class StatusServer:
    """Runs until `stop`. ``port`` is the one that was bound."""

    def __init__(self, host: str, port: int, is_ready: IsReady) -> None:
        class Handler(_StatusHandler):
            ready = staticmethod(is_ready)

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = Thread(target=self._server.serve_forever, name="status", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def start_status_server(host: str, port: int, is_ready: IsReady) -> StatusServer:
    """Serve on ``host:port`` (0: any free one). ``is_ready`` names what is not ready, and why; empty: ready.

    Errors: ``OSError`` for a port that is taken.
    """
    return StatusServer(host, port, is_ready)


class _StatusHandler(BaseHTTPRequestHandler):
    ready: IsReady
    timeout = 10

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._answer(200, "application/json", b'{"status": "alive"}')
        elif self.path == "/readyz":
            missing = self.ready()
            body = json.dumps({"status": "not ready" if missing else "ready", "missing": missing}).encode()
            self._answer(503 if missing else 200, "application/json", body)
        elif self.path == "/metrics":
            self._answer(200, "text/plain; version=0.0.4; charset=utf-8", exposition())
        else:
            self._answer(404, "application/json", b'{"status": "not found"}')

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        logger.debug("status request answered")
