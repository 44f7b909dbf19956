"""A peer for `bench.acknowledge`: HAPI HL7v2's SimpleServer, which parses, acknowledges and stores nothing.

Built by Maven from bench/hapi/ into a folder of the user's cache, once for each version of its two files.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from bench.processes import Server

_SOURCE = Path(__file__).parent / "hapi"
_BUILD_SECONDS = 600


def missing() -> str:
    """Why HAPI cannot run here; '' when it can."""
    absent = [name for name in ("java", "mvn") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not installed" if absent else ""


def build() -> Path:
    """The folder with classes and jars. Errors: ``RuntimeError`` with Maven's last words."""
    files = sorted(path for path in _SOURCE.iterdir() if path.is_file())
    version = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cuff" / f"hapi-peer-{version}"
    if not (cache / "built").exists():
        done = subprocess.run(["mvn", "-q", "-B", "-f", str(_SOURCE / "pom.xml"), f"-Dpeer.target={cache}", "compile"],
                              capture_output=True, text=True, timeout=_BUILD_SECONDS)  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"Maven could not build HAPI's server: {(done.stdout + done.stderr)[-600:]}")
        (cache / "built").touch()
    return cache


def start(port: int) -> Server:
    built = build()
    path = f"{built / 'classes'}:{built / 'lib'}/*"
    return Server("HAPI SimpleServer", ["java", "-cp", path, "AcknowledgingServer", str(port)])
