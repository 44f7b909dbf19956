"""A fabricated lake that keeps the contract of `docs/contracts.md`: people, visits, readings, features, scores.

Pseudo-random and vectorised; no part of the pipeline runs, so what the monitor sees is fully known.
"""

import copy
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd

from core.lake import current_snapshots, write_lake
from core.publication import Published, finish_build, publish, start_build
from core.settings import PROJECT_ROOT, Settings
from core.store import Batch, store_session
from ml.monitoring.champion import ChampionReference
from ml.monitoring.check import FEATURES

CATEGORIES = {"sex", "smoking_status", "has_diabetes", "has_chronic_kidney_disease"}
START = date(2025, 1, 1)


@dataclass
class Hospital:
    """A hospital of ``people`` with about ``visits_per_day``; `deliver` adds days, `new_build` publishes them."""

    settings: Settings
    people: int = 1500
    visits_per_day: int = 12
    seed: int = 1
    day: date = START

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.age = self.random.uniform(18, 85, self.people)
        self.level = 105 + 0.4 * self.age + self.random.normal(0, 10, self.people)
        with write_lake(self.settings) as lake:
            lake.execute((PROJECT_ROOT / "ehr" / "raw_tables.sql").read_text().replace(
                "exists raw", "exists clinical.raw"))
            lake.execute(_MARTS)

    def moved_to(self, settings: Settings) -> "Hospital":
        """The same hospital, its dice too, in a copy of its house."""
        moved = copy.copy(self)
        moved.settings, moved.random = settings, copy.deepcopy(self.random)
        return moved

    def deliver(self, days: int, *, shift_mmhg: float = 0.0, young: bool = False, unmapped: bool = False,
                silent: bool = False, unitless: float = 0.0, emptied: str = "", riskier: float = 0.0) -> None:
        """Add ``days`` of visits, scored: readings higher by ``shift_mmhg``, mostly the young, unmapped codes, nothing,
        a share without a unit, a feature without values, or risks higher by so much of their logit."""
        n = 0 if silent else int(self.random.poisson(self.visits_per_day * days))
        weight = np.where(self.age < 35, 8.0, 0.4) if young else np.ones(self.people)
        who = self.random.choice(self.people, n, p=weight / weight.sum())
        when = np.array([self.day + timedelta(int(d)) for d in self.random.integers(0, days, n)])
        visits = pd.DataFrame({"patient_key": [f"p{i}" for i in who], "event_date": when, "who": who})
        visits["systolic_mmhg"] = self.level[who] + self.random.normal(shift_mmhg, 9, n)
        visits["diastolic_mmhg"] = 0.55 * self.level[who] + 8 + self.random.normal(shift_mmhg, 6, n)
        visits["code"] = "NEW" if unmapped else "85354-9"
        visits["is_mapped"] = not unmapped
        visits["has_unit"] = self.random.random(n) >= unitless
        self.day += timedelta(days)  # the extract is cut at this day's first hour
        with store_session(self.settings) as session:
            batch = Batch(as_of=self.day, finished_at=datetime.now(UTC))
            session.add(batch)
        with write_lake(self.settings) as lake:
            lake.register("visits", visits)
            lake.execute(_DELIVER.format(batch_id=batch.batch_id, as_of=self.day, n=n))
            features = self._features()
            if emptied:
                features[emptied] = None
            lake.register("features", features)
            lake.execute("delete from clinical.ml.patient_features where feature_date = $1", [self.day])
            lake.execute("insert into clinical.ml.patient_features by name select * from features")
            lake.register("scores", self._scores(batch.batch_id, riskier))
            lake.execute("insert into clinical.scores.predictions by name select * from scores")

    def new_build(self) -> Published:
        build = start_build(self.settings)
        finish_build(self.settings, build.build_id)
        return publish(self.settings, build.build_id, "test")

    def champion(self) -> ChampionReference:
        """A champion trained on the lake as it stands."""
        return ChampionReference(1, int(current_snapshots(self.settings).clinical or 0), self.day)

    def _features(self) -> pd.DataFrame:
        numbers = [name for name in FEATURES if name not in CATEGORIES]
        frame = pd.DataFrame({name: self.random.normal(0, 1, self.people) for name in numbers})
        frame["age_years"], frame["systolic_mean_12m_mmhg"] = self.age, self.level
        frame["sex"] = np.where(np.arange(self.people) % 2, "female", "male")
        frame["smoking_status"] = np.where(np.arange(self.people) % 5, "never", "current")
        frame["has_diabetes"], frame["has_chronic_kidney_disease"] = np.arange(self.people) % 11 == 0, False
        frame["patient_key"], frame["feature_date"], frame["is_eligible"] = \
            [f"p{i}" for i in range(self.people)], self.day, True
        return frame

    def _scores(self, run: int, riskier: float) -> pd.DataFrame:
        risk = 1 / (1 + np.exp(-(self.level - 140) / 10 - riskier))
        return pd.DataFrame({"scoring_run_id": run, "patient_key": [f"p{i}" for i in range(self.people)],
                             "as_of": self.day, "model_version": 1, "risk": risk})


_COLUMNS = ", ".join(f"{name} {'boolean' if name.startswith('has_') else 'varchar' if name in CATEGORIES else 'double'}"
                     for name in FEATURES)
_MARTS = f"""
create schema clinical.core; create schema clinical.ml; create schema clinical.scores;
create table clinical.core.fct_encounters (encounter_key varchar, patient_key varchar, source_id varchar,
    started_at timestamptz, known_at timestamptz);
create table clinical.core.fct_blood_pressure (patient_key varchar, event_date date, is_current boolean,
    is_plausible boolean, systolic_mmhg double, diastolic_mmhg double);
create table clinical.core.fct_measurements (patient_key varchar, event_date date, measure varchar, value_code varchar,
    value double, is_current boolean, is_plausible boolean);
create table clinical.core.fct_conditions (patient_key varchar, event_date date, concept varchar, is_current boolean);
create table clinical.core.fct_medications (patient_key varchar, event_date date, concept varchar, is_current boolean);
create table clinical.core.dim_patients (patient_key varchar, last_event_at timestamptz);
create table clinical.ml.patient_features (patient_key varchar, feature_date date, is_eligible boolean, {_COLUMNS});
create table clinical.scores.predictions (scoring_run_id bigint, patient_key varchar, as_of date, model_version integer,
    risk double);
"""
_DELIVER = """
insert into clinical.core.fct_encounters by name select 'e' || row_number() over () || patient_key as encounter_key,
    patient_key, 'hospital' as source_id, event_date::timestamptz as started_at, event_date::timestamptz as known_at
    from visits;
insert into clinical.core.fct_blood_pressure by name select patient_key, event_date, true as is_current,
    true as is_plausible, systolic_mmhg, diastolic_mmhg from visits where is_mapped;
insert into clinical.core.fct_measurements by name select patient_key, event_date, measure, true as is_current,
    true as is_plausible from visits, (values ('body_weight'), ('heart_rate')) m(measure);
insert into clinical.raw.fhir_observations by name select 'hospital' as source_id, event_date::timestamptz as event_at,
    [{{'system': 'http://loinc.org', 'code': code}}] as codings,
    case when has_unit then []::varchar[] else ['no_unit'] end as flags, if(has_unit, 'mm[Hg]', null) as value_unit,
    {batch_id} as batch_id from visits;
insert into clinical.raw.landings by name select 'hospital' as source_id, {batch_id} as batch_id,
    '{as_of}'::date as as_of, [{{'unit': 'resource', 'type': 'Observation', 'received': {n}, 'accepted': {n},
    'duplicate': 0, 'ignored': 0, 'quarantined': 0}}] as counts;
"""
