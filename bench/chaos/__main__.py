"""`make chaos`: every scenario of this package, or those named; a table, and the same as var/bench/chaos.json.

    python -m bench.chaos [SCENARIO …] [--size small|full]      # default size: CUFF_CHAOS_SIZE, else full
"""

import argparse
import importlib
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.chaos.figure import Figure
from core.settings import load_settings

SCENARIOS = ("charsets", "full_disk", "failing_disk", "slow_neighbours", "mutated_messages", "persons", "kills")


def main(arguments: list[str]) -> int:
    """0 when every goal is met. Rows of scenarios that do not run now stay in the file."""
    from rich.console import Console

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", choices=[[], *SCENARIOS], help="default: all")
    parser.add_argument("--size", choices=("small", "full"), default=os.environ.get("CUFF_CHAOS_SIZE") or "full")
    chosen = parser.parse_args(arguments)
    console = Console()
    target = load_settings().var / "bench" / "chaos.json"
    are_met = True
    for name in chosen.scenario or SCENARIOS:
        console.print(f"[bold]{name}[/] ({chosen.size}) …")
        started = time.monotonic()
        figures: list[Figure] = importlib.import_module(f"bench.chaos.{name}").run(chosen.size)
        seconds = round(time.monotonic() - started, 1)
        _show(console, f"{name}, {seconds:.0f} s", figures)
        rows = [asdict(each) | {"is_met": each.is_met} for each in figures]
        _keep(target, name, {"size": chosen.size, "seconds": seconds, "figures": rows})
        are_met &= all(each.is_met for each in figures)
    console.print(f"written to {target}")
    return 0 if are_met else 1


def _show(console: Any, title: str, figures: list[Figure]) -> None:
    from rich.table import Table

    table = Table(title=title)
    for column in ("figure", "value", "unit", "goal", "met", "note"):
        table.add_column(column, overflow="fold")
    for each in figures:
        table.add_row(each.name, f"{each.value:.4g}", each.unit, each.goal, "yes" if each.is_met else "NO", each.note)
    console.print(table)


def _keep(target: Path, name: str, told: dict[str, Any]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(target.read_text()) if target.exists() else {}
    target.write_text(json.dumps(kept | {name: told}, indent=2))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
