"""What every command shares: its options, its settings, and errors as one line with an exit code."""

import logging
import sys
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

import cuff_print as show
from core.errors import ConfigurationError, CuffError, InputError

if TYPE_CHECKING:
    from core.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]
Why = Annotated[str, typer.Option(help="Why; kept with the change.")]


def run_app(app: typer.Typer) -> None:
    """Run a command; every error is one line on standard error and the exit code of its kind (`core.errors`)."""
    told = logging.StreamHandler()  # with a level of its own: libraries set theirs back to INFO when they are imported
    told.setLevel(logging.WARNING)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", handlers=[told])
    try:
        sys.exit(app(prog_name="cuff", standalone_mode=False))
    except CuffError as error:
        show.print_error(str(error))
        sys.exit(error.exit_code)
    except typer.TyperException as error:
        if what := error.format_message():  # nothing to say where the help was shown instead
            context = getattr(error, "ctx", None)
            what = what.replace("Value error, ", "").rstrip(".")
            show.print_error(f"{what}; see `{context.command_path if context else 'cuff'} --help`")
        sys.exit(2)
    except OSError as error:
        show.print_error(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:
        if not (what := _unreachable(error)):
            raise  # a fault of ours: its traceback is what mends it
        show.print_error(what)
        sys.exit(1)


def cli_settings() -> "Settings":
    """Settings of this process. Errors: `ConfigurationError` naming the variable that cannot be used."""
    from pydantic import ValidationError

    from core.settings import load_settings

    try:
        return load_settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "CUFF_" + "_".join(map(str, first["loc"])).upper()
        raise ConfigurationError(f"setting {name}: {first['msg']}; see .env.example") from None


def result(document: Any, as_json: bool, title: str) -> None:
    show.print_json(document) if as_json else show.print_record(title, document)


def day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InputError(f"'{text}' is not a day; write YYYY-MM-DD") from None


def actor() -> str:
    import getpass

    return f"cli:{getpass.getuser()}"


def columns(row: Any, *names: str) -> dict[str, Any]:
    """A row of the ops database, whole or these columns of it."""
    return {name: getattr(row, name) for name in names or [column.name for column in row.__table__.columns]}


def _unreachable(error: Exception) -> str:
    """What to say when a database or MLflow does not answer; '' for every other error. Never a statement's parameters."""
    if type(error).__module__ == "mlflow.exceptions" and str(error).startswith("API request to"):
        return "MLflow does not answer; check that it runs, and CUFF_MLFLOW_URL"
    from sqlalchemy.exc import OperationalError

    if not isinstance(error, OperationalError):
        return ""
    return f"a database cannot be used: {str(error.orig).strip().splitlines()[0]}; check the CUFF_*_URL settings"
