"""`make bench`: every bench, or those named; a table of ratios, and the same as var/bench/results.json.

    python -m bench [NAME …] [NUMBER …]     # numbers are the named bench's own sizes: python -m bench live 900
"""

import importlib
import json
import pkgutil
import sys
from dataclasses import asdict

import bench
from bench.result import Ratio
from core.settings import load_settings


def main(arguments: list[str]) -> int:
    """Run the benches whose names are given, or all: modules of this package with a ``run() -> list[Ratio]``."""
    from rich.console import Console
    from rich.table import Table

    names = [each for each in arguments if not each.isdigit()]
    sizes = [int(each) for each in arguments if each.isdigit()]
    if sizes and len(names) != 1:
        print("sizes belong to one bench: name it", file=sys.stderr)
        return 2
    console = Console()
    ratios: list[Ratio] = []
    for found in pkgutil.iter_modules(bench.__path__):
        module = importlib.import_module(f"bench.{found.name}") if found.name != "__main__" else None
        if hasattr(module, "run") and (not names or found.name in names):
            console.print(f"[bold]{found.name}[/] …")
            ratios += module.run(*sizes)  # type: ignore[union-attr]
    table = Table(title="Ratios, ours over the peer's, in one run")
    for column in ("bench", "ours", "peer", "unit", "peer is", "ratio", "goal", "met", "note"):
        table.add_column(column, overflow="fold")
    for each in ratios:
        table.add_row(each.name, f"{each.ours:.4g}", f"{each.peer:.4g}", each.unit, each.peer_name,
                      f"{each.ratio:.2f}", each.goal, "yes" if each.is_met else "NO", each.note)  # fmt: skip
    console.print(table)
    target = load_settings().var / "bench" / "results.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(each) | {"ratio": each.ratio, "is_met": each.is_met} for each in ratios]
    rows = [{name: None if value != value else value for name, value in row.items()} for row in rows]  # JSON has no NaN
    target.write_text(json.dumps(rows, indent=2))
    console.print(f"written to {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
