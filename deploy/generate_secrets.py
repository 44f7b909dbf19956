"""Add the secrets that `.env` lacks, for Compose and for Cuff alike: ``python3 deploy/generate_secrets.py [FILE]``.

Needs nothing but Python, so that a machine with Docker alone can run it. What is in the file is never changed.
"""

import base64
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path


def _key() -> str:
    """32 bytes of base64, as the pseudonym secret, the vault and the archive want it."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _password() -> str:
    """Hexadecimal, so that it means the same in a URL, a shell and a Compose file."""
    return secrets.token_hex(24)


SECRETS: dict[str, Callable[[], str]] = {
    "CUFF_PSEUDONYM_SECRET": _key,
    "CUFF_VAULT_KEY": _key,
    "CUFF_ARCHIVE_KEY": _key,
    "CUFF_S3_ACCESS_KEY": _password,
    "CUFF_S3_SECRET_KEY": _password,
    "POSTGRES_PASSWORD": _password,
    "AIRFLOW_DB_PASSWORD": _password,
    "MLFLOW_DB_PASSWORD": _password,
    "OPS_DB_PASSWORD": _password,
    "VAULT_DB_PASSWORD": _password,
    "LAKE_DB_PASSWORD": _password,
    "REDIS_PASSWORD": _password,
    "AIRFLOW_FERNET_KEY": _fernet_key,
    "AIRFLOW_JWT_SECRET": _password,
    "AIRFLOW_API_SECRET": _password,
    "AIRFLOW_ADMIN_PASSWORD": _password,
}


def add_secrets(env_file: Path) -> list[str]:
    """Append a fresh value for every secret that has none, mode 600; returns their names."""
    present = env_file.read_text() if env_file.exists() else ""
    set_already = {
        name for name, separator, value in (line.partition("=") for line in present.splitlines())
        if separator and value.strip()
    }
    missing = [name for name in SECRETS if name not in set_already]
    # A name without a value, as in .env.example, gives way to the line that has one.
    kept = [line for line in present.splitlines() if line.partition("=")[0] not in missing or "=" not in line]
    lines = kept + [f"{name}={SECRETS[name]()}" for name in missing]
    descriptor = os.open(env_file, os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "w") as out:
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 0)
        out.write("\n".join(lines) + "\n")
    return missing


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / ".env"
    added = add_secrets(target)
    print(f"{target}: {'added ' + ', '.join(added) if added else 'already complete'}")
