"""One Postgres server for the session; databases of its own for every house, dropped afterwards."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.settings import Settings
from tests.conftest import make_settings
from tests.postgres.server import Server, find_server_programs, named_server, own_server

DATABASES = ("ops", "vault", "lake", "mlflow")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of ``CUFF_TEST_POSTGRES``, else our own. Where neither is to be had: skip, but fail in CI."""
    programs = find_server_programs()
    if url := os.environ.get("CUFF_TEST_POSTGRES"):
        yield named_server(url)
    elif programs is not None:
        with own_server(programs) as started:
            yield started
    else:
        reason = "no Postgres: set CUFF_TEST_POSTGRES or install Debian's package postgresql"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def lake_password(server: Server) -> Iterator[None]:
    """libpq, under DuckDB, takes the lake's password from the environment, so that no message can quote it."""
    with pytest.MonkeyPatch.context() as patch:
        if server.admin_url.password:
            patch.setenv("PGPASSWORD", str(server.admin_url.password))
        yield


@pytest.fixture(scope="module")
def make_house(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Settings]]:
    """Makes houses whose ops database, vault, lake catalogs and MLflow store lie in fresh Postgres databases."""
    made: list[str] = []

    def make() -> Settings:
        prefix = f"cuff_test_{uuid.uuid4().hex[:12]}"
        names = {kind: f"{prefix}_{kind}" for kind in DATABASES}
        for name in names.values():
            server.execute(f"create database {name}")
            made.append(name)
        var: Path = tmp_path_factory.mktemp("house") / "var"
        var.mkdir()
        return make_settings(
            var,
            ops_url=server.sqlalchemy_url(names["ops"]),
            vault_url=server.sqlalchemy_url(names["vault"]),
            mlflow_url=server.sqlalchemy_url(names["mlflow"]),
            lake_catalog=server.catalog(names["lake"]),
            lake_data=str(var / "lake"),
        )

    yield make
    for name in made:
        server.execute(f"drop database {name} with (force)")


@pytest.fixture
def house(make_house: Callable[[], Settings]) -> Settings:
    return make_house()
