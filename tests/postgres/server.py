"""A Postgres server for the tests: the one that is named, else one of our own from Debian's package."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, create_engine, make_url, text


@dataclass(frozen=True)
class Server:
    """A running server. ``is_ours`` when it was started here, so that roles and databases of any name may be made."""

    admin_url: URL
    is_ours: bool

    def execute(self, statement: str) -> None:
        """Run one statement as the administrator, outside a transaction (as ``create database`` asks)."""
        engine = create_engine(self.admin_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    def sqlalchemy_url(self, database: str, driver: str = "psycopg") -> str:
        url = self.admin_url.set(drivername=f"postgresql+{driver}", database=database)
        return url.render_as_string(hide_password=False)

    def catalog(self, database: str) -> str:
        """``CUFF_LAKE_CATALOG`` of a database here. A password travels by ``PGPASSWORD``, as in docker-compose.yml."""
        url = self.admin_url
        return f"postgres:host={url.host} port={url.port or 5432} dbname={database} user={url.username}"

    def psql_url(self, database: str) -> str:
        url = self.admin_url.set(drivername="postgresql", database=database)
        return url.render_as_string(hide_password=False)


def named_server(url: str) -> Server:
    """The server of ``CUFF_TEST_POSTGRES``."""
    return Server(make_url(url).set(drivername="postgresql+psycopg"), is_ours=False)


def find_server_programs() -> Path | None:
    """The folder of the newest installed ``initdb`` and ``pg_ctl``, or None when Postgres is not installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda folder: int(folder.parent.name))
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


@contextmanager
def own_server(programs: Path) -> Iterator[Server]:
    """A throw-away cluster on a free loopback port; password authentication, gone at the end of the block.

    Postgres refuses to run as root, so root hands it to the package's own user.
    """
    folder = Path(tempfile.mkdtemp(prefix="cuff-postgres-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        as_user = ["runuser", "-u", "postgres", "--"]
    port, password, data = free_port(), "only for this test", folder / "data"
    password_file = folder / "password"
    password_file.write_text(password)
    password_file.chmod(0o644)

    def run(*command: str) -> None:
        done = subprocess.run([*as_user, *command], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, f"{Path(command[0]).name} failed: {done.stdout}"

    run(str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--encoding=UTF8", "--no-locale", "--no-sync",
        "--auth=scram-sha-256", f"--pwfile={password_file}")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    run(str(programs / "pg_ctl"), "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield Server(make_url(f"postgresql+psycopg://postgres:{quote(password)}@127.0.0.1:{port}/postgres"), is_ours=True)
    finally:
        run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(done: Callable[[], bool], seconds: float, what: str) -> None:
    """Ask until ``done``. Errors: ``AssertionError`` naming ``what`` when the time is over."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:.0f} s"
        time.sleep(0.2)
