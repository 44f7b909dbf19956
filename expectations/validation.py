"""Running checks as a Great Expectations suite, and its Data Docs: counts in, counts out, no value in between."""

import os
import shutil
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duckdb import DuckDBPyConnection

from expectations.suites import SUITE_NAMES, Check

if TYPE_CHECKING:
    from great_expectations.data_context import EphemeralDataContext



@dataclass(frozen=True)
class Finding:
    """A check that does not hold. ``violations`` is None when the check could not be evaluated at all."""

    check: Check
    violations: int | None


def validate(connection: DuckDBPyConnection, suite: str, checks: list[Check], docs: Path) -> list[Finding]:
    """Evaluate ``checks`` pushed down to DuckDB and write the suite's Data Docs to ``docs/{suite}``."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    os.environ["TQDM_DISABLE"] = "1"
    import great_expectations as gx
    from great_expectations.core.expectation_suite import ExpectationSuite
    from great_expectations.data_context.types.base import ProgressBarsConfig

    from expectations.lake_dialect import engine_url

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    with engine_url(connection) as url:
        source = context.data_sources.add_sql("lake", connection_string=url, create_temp_table=False)
        batch = source.add_query_asset(suite, query="select 1 as one").add_batch_definition_whole_table("now")
        expectations = context.suites.add(ExpectationSuite(name=suite, expectations=[_expectation(c) for c in checks]))
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(name=suite, data=batch, suite=expectations))
        validated = definition.run(result_format="SUMMARY")
        source.get_engine().dispose()
    _write_docs(context, suite, docs)
    by_name = {check.name: check for check in checks}
    return [
        Finding(by_name[result.expectation_config.meta["name"]], result.result.get("observed_value"))
        for result in validated.results if not result.success and result.expectation_config
    ]


def _expectation(check: Check) -> Any:
    from great_expectations.expectations import UnexpectedRowsExpectation
    from great_expectations.expectations.metadata_types import FailureSeverity

    query = " ".join(check.violations.replace("{", "{{").replace("}", "}}").split())
    return UnexpectedRowsExpectation(
        # Great Expectations asks for the batch; here it is one row that stands for the build.
        unexpected_rows_query=f"select violation.* from ({query}) as violation cross join {{batch}} as build",
        description=f"{check.table}: {check.says}",
        severity=FailureSeverity.CRITICAL if check.severity == "fail" else FailureSeverity.WARNING,
        meta={"name": check.name, "severity": check.severity, "table": check.table},
    )


def _write_docs(context: "EphemeralDataContext", suite: str, docs: Path) -> None:
    """Static pages of the newest run of a suite; the history is in the ops database."""
    fresh = docs / f".{suite}-{os.getpid()}"
    site: Any = {
        "class_name": "SiteBuilder",
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(fresh)},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    docs.mkdir(parents=True, exist_ok=True)
    context.add_data_docs_site("pages", site)
    context.build_data_docs(site_names=["pages"])
    shutil.rmtree(docs / suite, ignore_errors=True)
    fresh.replace(docs / suite)
    links = "".join(f'<li><a href="{name}/index.html">{escape(name)}</a></li>'
                    for name in SUITE_NAMES if (docs / name / "index.html").exists())
    (docs / "index.html").write_text(
        f'<!doctype html><meta charset="utf-8"><title>Gates</title><h1>Gates: the newest run of each</h1><ul>{links}</ul>')
