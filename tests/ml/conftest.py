"""One redis-server for the session, and a house on each kind of online store."""

from collections.abc import Iterator

import pytest
from redis import Redis

from core.settings import Settings
from tests.ml.redis_server import own_redis


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with own_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def empty_redis(redis_server: str) -> str:
    """The address of the session's server, emptied."""
    Redis.from_url(redis_server).flushall()
    return redis_server


@pytest.fixture(params=["sqlite", "redis"])
def online_settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """A house whose features are served by SQLite, then by Redis."""
    if request.param == "redis":
        settings.online_store = request.getfixturevalue("empty_redis")
    return settings
