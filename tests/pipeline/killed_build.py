"""`cuff build` that kills its own process group (SIGKILL, no clean-up) around a step, or while dbt works.

Usage: killed_build.py before|after MODULE:NAME
       killed_build.py dbt NODES SECONDS        so long after that many of dbt's nodes have ended
"""

import os
import signal
import sys
from threading import Timer
from typing import Any

import core.dbt
import cuff
from tests.ehr.killed_ingest import die_around


def die() -> None:
    os.killpg(0, signal.SIGKILL)


def die_within_dbt(nodes: int, seconds: float) -> None:
    run_dbt = core.dbt.run_dbt

    def dying(*arguments: Any, on_node: Any, **named: Any) -> None:
        ended = 0

        def count(*node: str) -> None:
            nonlocal ended
            ended += 1
            if ended == nodes:
                Timer(seconds, die).start()
            on_node(*node)

        run_dbt(*arguments, on_node=count, **named)

    core.dbt.run_dbt = dying


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["dbt", nodes, seconds]:
            die_within_dbt(int(nodes), float(seconds))
        case [when, step]:
            die_around(when, step)
    sys.argv[1:] = ["build"]
    cuff.main()
