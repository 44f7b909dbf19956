"""The gates: one suite evaluated at one boundary, its outcome kept, a step behind it held back where it fails."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from duckdb import DuckDBPyConnection

from core.errors import GateError, NotPublishedError
from core.lake import read_lake
from core.publication import Published, get_build, published
from core.settings import Settings
from core.store import Build, GateResult, store_session
from expectations.raw_columns import key_columns, newest_batch, text_columns
from expectations.suites import SUITE_NAMES, Scope, checks_of

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("cuff.gates")
_CORE_MARTS = ("dim_patients", "fct_encounters", "fct_blood_pressure", "fct_measurements", "fct_conditions",
               "fct_medications")


@dataclass(frozen=True)
class GateOutcome:
    """What a gate found. ``findings``: name, severity, table and number of violations of each check that does not hold."""

    suite: str
    build_id: int | None
    passed: bool
    evaluated: int
    failed: int
    warned: int
    findings: list[dict[str, Any]] = field(default_factory=list)


def run_gate(settings: Settings, suite: str, build_id: int | None = None,
             frame: "pd.DataFrame | None" = None) -> GateOutcome:
    """Evaluate a suite and keep the outcome as a row of ``gate_results`` and as Data Docs under ``reports/gx``.

    ``build_id`` names the build to read (default: the newest for ``marts``, the published one for ``training_set`` and
    ``prediction_log``). ``frame`` stands in for the training set or the scoring run. Errors: `GateError` when there is
    nothing to look at; a failed check is no error here, see `require`.
    """
    if suite not in SUITE_NAMES:
        raise GateError(f"there is no suite {suite!r}; there are {', '.join(SUITE_NAMES)}")
    from expectations.validation import validate

    opening = {"landed": _landed, "marts": _marts, "training_set": _training_set, "prediction_log": _prediction_log}
    with opening[suite](settings, build_id, frame) as (lake, scope, about):
        checks = checks_of(suite, scope)
        found = validate(lake, suite, checks, settings.reports_dir / "gx")
    findings = [{"expectation": f.check.name, "severity": f.check.severity, "table": f.check.table,
                 "says": f.check.says, "violations": f.violations} for f in found]
    failed = sum(f.check.severity == "fail" or f.violations is None for f in found)
    outcome = GateOutcome(suite, about, failed == 0, len(checks), failed, len(found) - failed, findings)
    with store_session(settings) as session:
        session.add(GateResult(suite=suite, build_id=about, passed=outcome.passed, evaluated=outcome.evaluated,
                               failed=failed, warned=outcome.warned, findings=findings))
    for finding in findings:
        logger.warning("gate %s: %s (%s) in %s: %s violations", suite, finding["expectation"], finding["severity"],
                       finding["table"], finding["violations"])
    return outcome


def require(outcome: GateOutcome) -> GateOutcome:
    """The outcome, if the gate holds. Errors: `GateError` naming the checks that failed."""
    if not outcome.passed:
        names = [f["expectation"] for f in outcome.findings if f["severity"] == "fail" or f["violations"] is None]
        raise GateError(
            f"gate '{outcome.suite}' does not hold: {', '.join(names[:3])}{' and more' if len(names) > 3 else ''} "
            f"({outcome.failed} of {outcome.evaluated} failed); see reports/gx/{outcome.suite}/index.html")
    return outcome


_Opened = tuple[DuckDBPyConnection, Scope, int | None]


@contextmanager
def _landed(settings: Settings, build_id: int | None, frame: object) -> Iterator[_Opened]:
    build = get_build(settings, build_id) if build_id is not None else None
    now = _published(settings)
    with read_lake(settings, ("clinical",)) as lake:
        through, as_of = newest_batch(lake)
        if build is not None:
            since, through = build.since_batch_id, build.through_batch_id
        else:
            since = get_build(settings, now.build_id).through_batch_id if now else 0
        yield lake, Scope(as_of=as_of, since_batch_id=since, through_batch_id=through, key_columns=key_columns(lake),
                          text_columns=text_columns(lake)), build_id


@contextmanager
def _marts(settings: Settings, build_id: int | None, frame: object) -> Iterator[_Opened]:
    build = get_build(settings, build_id)
    before, now = None, _published(settings)
    if now is not None:
        with read_lake(settings, ("clinical",), now.snapshots) as lake:
            before = {table: _count(lake, f"clinical.core.{table}") for table in _CORE_MARTS}
    with read_lake(settings, snapshots=_snapshots(build)) as lake:
        yield lake, Scope(as_of=build.as_of, published_rows=before), build.build_id


@contextmanager
def _training_set(settings: Settings, build_id: int | None, frame: "pd.DataFrame | None") -> Iterator[_Opened]:
    build = _build_to_read(settings, build_id)
    with read_lake(settings, ("clinical",), _snapshots(build)) as lake:
        if frame is not None:
            lake.register("training_set", frame)
        else:
            lake.execute("""
                create temp view training_set as
                select examples.landmark_date, examples.label, features.*
                from clinical.ml.hypertension_examples as examples
                inner join clinical.ml.patient_features as features
                    on examples.patient_key = features.patient_key and examples.landmark_date = features.feature_date
                where examples.label is not null""")
        yield lake, Scope(as_of=build.as_of, rows="training_set"), build.build_id


@contextmanager
def _prediction_log(settings: Settings, build_id: int | None, frame: "pd.DataFrame | None") -> Iterator[_Opened]:
    build = _build_to_read(settings, build_id)
    with read_lake(settings, ("clinical",)) as lake:  # predictions are newer than the snapshot they were made from
        if frame is not None:
            lake.register("predictions", frame)
        else:
            _require_table(lake, "scores", "predictions", "nobody has been scored yet; run `cuff score`")
            lake.execute(f"""
                create temp view predictions as select * from clinical.scores.predictions where scoring_run_id =
                    (select max(scoring_run_id) from clinical.scores.predictions where build_id = {build.build_id})""")
        eligible = f"""(select patient_key from clinical.ml.patient_features at (version => {build.clinical_snapshot})
                        where feature_date = date '{build.as_of}' and is_eligible)"""
        yield lake, Scope(as_of=build.as_of, rows="predictions", eligible=eligible), build.build_id


def _published(settings: Settings) -> Published | None:
    try:
        return published(settings)
    except NotPublishedError:
        return None


def _build_to_read(settings: Settings, build_id: int | None) -> Build:
    return get_build(settings, published(settings).build_id if build_id is None else build_id)


def _snapshots(build: Build) -> Any:
    from core.lake import SnapshotNumbers

    if build.clinical_snapshot is None:
        raise GateError(f"build {build.build_id} is {build.state} and wrote no snapshot yet; run `cuff build`")
    return SnapshotNumbers(build.clinical_snapshot, build.analytics_snapshot)


def _require_table(lake: DuckDBPyConnection, schema: str, table: str, otherwise: str) -> None:
    found = lake.execute("select 1 from duckdb_tables() where database_name = 'clinical' and schema_name = $1 "
                         "and table_name = $2", [schema, table]).fetchone()
    if found is None:
        raise GateError(otherwise)


def _count(lake: DuckDBPyConnection, table: str) -> int:
    row = lake.execute(f"select count(*) from {table}").fetchone()
    return int(row[0]) if row else 0
