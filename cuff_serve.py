"""`cuff serve`: the inference API."""

import sys

import cuff_print as show
from cuff_command import cli_settings


def serve() -> None:
    """Answer with risks, over HTTP: POST /v1/risk, CDS Hooks, and a page for people at /. Until Ctrl-C."""
    from ml.serving.serve import run_server

    sys.exit(run_server(cli_settings(), show.print_line))
