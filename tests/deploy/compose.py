"""docker-compose.yml, read two ways: as the file stands, and as a Compose client resolves it."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from core.settings import PROJECT_ROOT

COMPOSE_FILE = PROJECT_ROOT / "docker-compose.yml"


def compose_file() -> dict[str, Any]:
    """The file with its anchors resolved and its ``${…}`` as they are."""
    content: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
    return content


def compose_client() -> list[str] | None:
    """The command of the Compose client at hand: Docker's plugin, else the stand-alone program, else None."""
    if shutil.which("docker"):
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if plugin.returncode == 0:
            return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def run_config(client: list[str], env_file: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """``config`` with the variables of ``env_file`` and no others of this process."""
    return subprocess.run(
        [*client, "--env-file", str(env_file), "-f", str(COMPOSE_FILE), "config", *arguments],
        capture_output=True, text=True, check=False, cwd=env_file.parent,
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(env_file.parent)},
    )
