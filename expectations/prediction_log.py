"""What must hold of the newest scoring run before anybody acts on it."""

from expectations.suites import Check, Scope, not_null, unique


def checks(scope: Scope) -> list[Check]:
    """Complete, unique, probabilities, from one model. ``scope.rows``: the run; ``scope.eligible``: patient keys."""
    rows, table = scope.rows, "scores.predictions"
    return [
        Check("somebody_was_scored", "fail", table, "the run is not empty",
              f"select 1 from {rows} having count(*) = 0 and (select count(*) from {scope.eligible}) > 0"),
        unique(table, ("patient_key",), rows),
        not_null(table, "patient_key", rows),
        Check("risk_is_a_probability", "fail", table, "`risk` is within 0 and 1 and never null",
              f"select 1 from {rows} where not coalesce(risk between 0 and 1, false) or isnan(risk)"),
        Check("band_is_known", "fail", table, "`band` is low, moderate or high",
              f"select 1 from {rows} where not coalesce(band in ('low', 'moderate', 'high'), false)"),
        Check("everybody_eligible_is_scored", "fail", table, "nobody eligible is missing",
              f"select 1 from {scope.eligible} as eligible anti join {rows} as scored using (patient_key)"),
        Check("only_eligible_are_scored", "fail", table, "nobody else is scored",
              f"select 1 from {rows} as scored anti join {scope.eligible} as eligible using (patient_key)"),
        Check("one_model_scored", "fail", table, "one run is one model on one build on one day",
              f"""select 1 from {rows} having count(distinct model_version) > 1 or count(distinct build_id) > 1
                  or count(distinct as_of) > 1"""),
        Check("risks_vary", "warn", table, "risks are not one constant",
              f"select 1 from {rows} having count(*) >= 100 and max(risk) - min(risk) < 0.01"),
        Check("mean_risk_is_believable", "warn", table, "the mean risk is between 0.5% and 60%",
              f"select 1 from {rows} having count(*) >= 100 and avg(risk) not between 0.005 and 0.6"),
    ]
