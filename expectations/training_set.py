"""What must hold of the rows a model is about to learn from."""

from expectations.suites import Check, Scope, not_null, share_at_least, unique

LEAST_EXAMPLES = 100
_RANGES = {"age_years": (17.9, 86.0), "systolic_last_mmhg": (50.0, 300.0), "diastolic_last_mmhg": (20.0, 200.0)}


def checks(scope: Scope) -> list[Check]:
    """Labelled, unique, from before, in range, of both outcomes. ``scope.rows``: one row per patient and landmark."""
    rows, table = scope.rows, "training_set"
    return [
        Check("enough_examples", "fail", table, f"at least {LEAST_EXAMPLES} examples",
              f"select 1 from {rows} having count(*) < {LEAST_EXAMPLES}"),
        unique(table, ("patient_key", "landmark_date"), rows),
        not_null(table, "patient_key", rows),
        not_null(table, "landmark_date", rows),
        Check("labels_are_zero_or_one", "fail", table, "censored examples are not learned from",
              f"select 1 from {rows} where not coalesce(label in (0, 1), false)"),
        Check("label_rate_is_believable", "fail", table, "between 1% and 50% of the examples had an event",
              f"select 1 from {rows} having count(*) > 0 and avg(label) not between 0.01 and 0.5"),
        Check("landmarks_are_over", "fail", table, "the year after each landmark is over",
              f"select 1 from {rows} where landmark_date::date + 365 > date '{scope.as_of}'"),
        Check("every_landmark_has_both_outcomes", "warn", table, "no landmark has only events or none",
              f"""select 1 from {rows} group by landmark_date
                  having count(*) >= {LEAST_EXAMPLES} and avg(label) not between 0.005 and 0.6"""),
        *(Check(f"{column}_is_in_range", "fail", table, f"`{column}` is within {low:g} to {high:g}",
                f"select 1 from {rows} where {column} not between {low} and {high}")
          for column, (low, high) in _RANGES.items()),
        share_at_least("ages_are_known", "fail", table, "every age is known", "age_years is not null", 1.0, rows),
        share_at_least("readings_are_known", "fail", table, "99% have a last systolic pressure",
                       "systolic_last_mmhg is not null", 0.99, rows),
        share_at_least("bmi_is_mostly_known", "warn", table, "half have a BMI", "bmi_last_kg_m2 is not null", 0.5, rows),
        Check("pressures_vary", "fail", table, "the last systolic pressure is not one constant",
              f"select 1 from {rows} having count(*) > 1 and coalesce(stddev_samp(systolic_last_mmhg), 0) < 1"),
    ]
