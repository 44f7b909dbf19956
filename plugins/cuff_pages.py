"""The Cuff page in the Airflow UI, and the reports behind it, for people who are logged in to Airflow.

Airflow mounts plugin apps without any login of its own, so every route here depends on `requires_access_view`.
"""

import mimetypes
from pathlib import Path
from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from airflow.plugins_manager import AirflowPlugin
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape

from core.settings import Settings, load_settings
from cuff_page_data import page_data

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(), trim_blocks=True)
# Report pages bring scripts of their own, so they may run them but never speak to another host.
_REPORT_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' data: blob:"

app = FastAPI(title="Cuff", openapi_url=None, docs_url=None, redoc_url=None,
              dependencies=[Depends(requires_access_view(AccessView.WEBSITE))])
SettingsDep = Annotated[Settings, Depends(lambda: load_settings())]  # its own arguments are not the request's


@app.exception_handler(401)
def ask_for_login(request: Request, error: HTTPException) -> Response:
    """A browser is sent to the login and comes back; a program gets the plain status."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(get_auth_manager().get_url_login(next_url=str(request.url)))
    return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})


@app.get("/", response_class=HTMLResponse)
def page(settings: SettingsDep) -> str:
    """The one page: what is published, what came in, which model serves, whether the world still fits it."""
    return _TEMPLATES.get_template("cuff.html").render(page_data(settings))


@app.get("/reports/{path:path}")
def report(path: str, settings: SettingsDep) -> FileResponse:
    """A file of the reports folder, and nothing outside it."""
    root = settings.reports_dir.resolve()
    wanted = (root / path).resolve()
    if not wanted.is_relative_to(root) or not wanted.is_file():
        raise HTTPException(404)
    kind = mimetypes.guess_type(wanted.name)[0] or "application/octet-stream"
    return FileResponse(wanted, media_type=kind, headers={"Content-Security-Policy": _REPORT_POLICY})


class CuffPlugin(AirflowPlugin):
    """Mounts the pages under ``/cuff`` and puts them into Airflow's navigation."""

    name = "cuff"
    fastapi_apps = [{"app": app, "url_prefix": "/cuff", "name": "Cuff"}]  # noqa: RUF012 -- Airflow's own interface
    external_views = [  # noqa: RUF012
        {"name": "Cuff", "href": "/cuff/", "url_route": "cuff", "destination": "nav", "category": None},
    ]
