"""What must hold of a build's snapshot before it becomes what readers see."""

from expectations.suites import Check, Scope, not_null, share_at_least, unique

LEAST_LABELLED = 200  # below this a share says little
_FACTS = ("fct_encounters", "fct_blood_pressure", "fct_measurements", "fct_conditions", "fct_medications")
_GRAINS = {
    "core.dim_patients": ("patient_key",),
    "core.fct_encounters": ("encounter_key",),
    "core.fct_blood_pressure": ("blood_pressure_key",),
    "core.fct_measurements": ("measurement_key",),
    "core.fct_conditions": ("condition_key",),
    "core.fct_medications": ("medication_key",),
    "ml.hypertension_examples": ("patient_key", "landmark_date"),
    "ml.patient_features": ("patient_key", "feature_date"),
}
# Share of the published rows that a build must keep; a collapse of the readings is the fault that hurts most.
_KEPT = {"dim_patients": ("fail", 0.95), "fct_blood_pressure": ("fail", 0.95), "fct_measurements": ("warn", 0.95),
         "fct_encounters": ("warn", 0.95), "fct_conditions": ("warn", 0.95), "fct_medications": ("warn", 0.95)}


def checks(scope: Scope) -> list[Check]:
    """Grain, referential integrity, order of times, plausibility, no collapse, label rate, features, small cells."""
    found = [unique(table, columns, f"clinical.{table}") for table, columns in _GRAINS.items()]
    found += [_known_patient(fact) for fact in _FACTS]
    found += [_versions_follow(fact) for fact in _FACTS[1:]]
    found += [_kept(scope, table) for table in _KEPT]
    examples, features = "clinical.ml.hypertension_examples", "clinical.ml.patient_features"
    pressure = "clinical.core.fct_blood_pressure"
    found += [
        Check("there_are_patients", "fail", "core.dim_patients", "the warehouse is not empty",
              "select 1 where not exists (select 1 from clinical.core.dim_patients)"),
        not_null("core.fct_blood_pressure", "event_at", pressure),
        share_at_least("readings_are_mostly_plausible", "fail", "core.fct_blood_pressure",
                       "at least four fifths of the readings are plausible", "is_plausible", 0.8, pressure),
        share_at_least("readings_are_plausible", "warn", "core.fct_blood_pressure",
                       "at least 97% of the readings are plausible", "is_plausible", 0.97, pressure),
        Check("readings_are_in_mmhg", "fail", "core.fct_blood_pressure",
              "the median plausible systolic pressure is one of mmHg (kPa read as mmHg would be near 16)",
              f"""select 1 from {pressure} where is_plausible and is_current
                  having count(systolic_mmhg) >= 20 and median(systolic_mmhg) not between 90 and 170"""),
        Check("label_rate_is_believable", "fail", "ml.hypertension_examples",
              "between 1% and 50% of the labelled examples had an event",
              f"select 1 from {examples} having count(label) >= {LEAST_LABELLED} and avg(label) not between 0.01 and 0.5"),
        Check("label_agrees_with_outcome", "fail", "ml.hypertension_examples", "1 event, 0 none, else null",
              f"""select 1 from {examples} where label is distinct from
                  case outcome when 'event' then 1 when 'no_event' then 0 end
                  or (event_date is not null) <> (outcome = 'event')"""),
        Check("events_lie_in_the_window", "fail", "ml.hypertension_examples",
              "an event lies within the 365 days after the landmark",
              f"select 1 from {examples} where event_date - landmark_date not between 1 and 365"),
        Check("examples_have_features", "fail", "ml.patient_features", "every example has features and is eligible",
              f"""select 1 from {examples} as examples
                  left join {features} as features on examples.patient_key = features.patient_key
                      and examples.landmark_date = features.feature_date
                  where features.is_eligible is not true"""),
        Check("everybody_has_features_today", "fail", "ml.patient_features",
              "every patient of whom anything was told has a row as of the build",
              f"""select 1 from clinical.core.dim_patients as patients
                  semi join ({_told_by(scope)}) as told on patients.patient_key = told.patient_key
                  anti join {features} as features on patients.patient_key = features.patient_key
                      and features.feature_date = date '{scope.as_of}'"""),
        Check("eligible_have_a_reading", "fail", "ml.patient_features", "who is eligible has a recent reading",
              f"""select 1 from {features} where is_eligible
                  and (systolic_last_mmhg is null and diastolic_last_mmhg is null or blood_pressure_count_12m < 1)"""),
        Check("ages_are_believable", "fail", "ml.patient_features", "who is eligible is 18 to 85",
              f"select 1 from {features} where is_eligible and not coalesce(age_years between 17.99 and 86, false)"),
        *_small_cells(),
    ]
    return found


def _told_by(scope: Scope) -> str:
    """Patients with a fact that had happened and been told by the end of the build's day."""
    happened = {"fct_encounters": "started_at"}
    return " union all ".join(
        f"select patient_key from clinical.core.{fact} "
        f"where greatest({happened.get(fact, 'event_at')}, known_at) < date '{scope.as_of}' + 1" for fact in _FACTS)


def _small_cells() -> list[Check]:
    return [
        Check("prevalence_shows_no_small_cell", "fail", "analytics.hypertension_prevalence_control_monthly",
              "no count under 11 is shown",
              """select 1 from analytics.analytics.hypertension_prevalence_control_monthly
                 where least(patients, diagnosed, measured, controlled) < 11"""),
        Check("care_gaps_show_no_small_cell", "fail", "analytics.care_gaps", "no count under 11 is shown",
              """select 1 from analytics.analytics.care_gaps
                 where least(patients, patients_with_gap) < 11"""),
    ]


def _known_patient(fact: str) -> Check:
    return Check(f"{fact}_patient_exists", "fail", f"core.{fact}", "every fact belongs to a patient",
                 f"select 1 from clinical.core.{fact} anti join clinical.core.dim_patients using (patient_key)")


def _versions_follow(fact: str) -> Check:
    return Check(f"{fact}_versions_follow", "fail", f"core.{fact}",
                 "a version is superseded after it became known, and is current while it is not superseded",
                 f"""select 1 from clinical.core.{fact} where superseded_at < known_at
                     or is_current <> (superseded_at is null)""")


def _kept(scope: Scope, table: str) -> Check:
    severity, least = _KEPT[table]
    before = (scope.published_rows or {}).get(table, 0)
    return Check(f"{table}_has_not_shrunk", severity, f"core.{table}",  # type: ignore[arg-type]
                 f"at least {least:.0%} of the published rows are still there",
                 f"select 1 from clinical.core.{table} having count(*) < {least} * {before}")
