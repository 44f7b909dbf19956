"""Does the feed still work? Volumes, codes, units, plausibility and missing values, source by source."""

from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from duckdb import DuckDBPyConnection

from ml.monitoring.effects import overdispersion, rate_ratio, share_rise
from ml.monitoring.metrics import DriftMetric, judged
from ml.monitoring.rules import Rules
from ml.monitoring.windows import Window

if TYPE_CHECKING:
    import pandas as pd

_TRAILING_DAYS = 180  # what is usual for a feed is what it did in the half year before
_OBSERVATIONS = """(
    select source_id, event_at, codings, flags, coalesce(value_unit, components[1].value_unit) as unit
    from clinical.raw.fhir_observations
    union all
    select source_id, event_at, codings, flags, value_unit from clinical.raw.hl7v2_observations
)"""


def quality_metrics(lake: DuckDBPyConnection, window: Window, rules: Rules) -> list[DriftMetric]:
    """Everything about one window that a broken upstream would change."""
    return [*_volumes(lake, window, rules), *_yields(lake, window, rules), *_unseen(lake, window, rules),
            *_implausible(lake, window, rules), *_quarantined(lake, window, rules)]


def null_metrics(current: "pd.DataFrame", reference: "pd.DataFrame", features: list[str], window: Window,
                 rules: Rules) -> list[DriftMetric]:
    """Missing share of each feature among people we have known for a while."""
    found = []
    now, then = (frame[frame["is_returning"]] if len(frame) else frame for frame in (current, reference))
    if now.empty or len(then) < rules.sample.reference:
        return []
    for feature in features:
        counts_now, counts_then = ((int(frame[feature].isna().sum()), len(frame)) for frame in (now, then))
        effect = share_rise(counts_now, counts_then, design_effect=rules.confidence.design_effect)
        reason = f"{feature} is missing for {effect.value:+.0%} more of those known before ({effect.n} visits, {window.name})"
        found.append(judged("quality", feature, "missing_share_rise", effect, rules.nulls, rules.confidence.level,
                            window.name, rules.sample.visits, reason, only_rise=True))
    return found


def _volumes(lake: DuckDBPyConnection, window: Window, rules: Rules) -> list[DriftMetric]:
    """Observations per source since its last delivery against its usual rate; and sources that fell silent."""
    landed: dict[str, list[date]] = {}
    for source, day in lake.execute(
            "select distinct source_id, as_of from clinical.raw.landings where as_of <= $1 order by 2",
            [window.end]).fetchall():
        landed.setdefault(source, []).append(day)
    found = []
    for source, days in landed.items():
        gaps = sorted((b - a).days for a, b in pairwise(days))
        silent = (window.end - days[-1]).days
        if len(gaps) >= 2 and silent > 0:
            usual = max(1, gaps[len(gaps) // 2])
            breached = silent >= rules.volume.silent_days and silent >= rules.volume.silent_gaps * usual
            found.append(DriftMetric("quality", source, f"silent_gaps.{window.name}", silent / usual,
                                     rules.volume.silent_gaps, breached, window.name, len(gaps),
                                     f"source {source} has been silent for {silent} days" if breached else ""))
        if len(days) < 2 or days[-1] <= window.start:
            continue
        start = min(days[-2], window.start)
        length = (days[-1] - start).days
        counts = lake.execute(
            f"""
            select count(*) filter (where event_at::date >= $2::date and event_at::date < $3::date),
                count(*) filter (where event_at::date < $2::date and event_at::date >= $2::date - {_TRAILING_DAYS})
            from {_OBSERVATIONS} where source_id = $1
            """, [source, start, days[-1]]).fetchone()
        blocks = lake.execute(
            f"""
            select count(o.event_at) from range({_TRAILING_DAYS // length}) b(number)
            left join (select event_at::date as day from {_OBSERVATIONS} where source_id = $1) o(event_at)
                on (date_diff('day', o.event_at, $2::date) - 1) // {length} = b.number and o.event_at < $2::date
            group by b.number
            """, [source, start]).fetchnumpy()
        expected = (counts[1] if counts else 0) * length / _TRAILING_DAYS
        spread = overdispersion(np.asarray(next(iter(blocks.values())), dtype=np.float64))
        found.append(_collapse("volume_ratio", source, counts[0] if counts else 0, expected, window, rules, spread,
                               rules.volume.effect, rules.volume.ceiling,
                               "sends {ratio:.0%} of its usual observations"))
    return found


def _yields(lake: DuckDBPyConnection, window: Window, rules: Rules) -> list[DriftMetric]:
    """Mapped rows per encounter, per measure: an unmapped code leaves encounters without what they always bring."""
    rows = lake.execute(
        """
        with facts as (
            select 'blood_pressure' as measure, event_date from clinical.core.fct_blood_pressure where is_current
            union all
            select measure, event_date from clinical.core.fct_measurements
            where is_current and (measure != 'smoking_status' or value_code != 'unknown')
            union all
            select 'encounter', cast(started_at as date) from clinical.core.fct_encounters
        )
        select measure, count(*) filter (where event_date >= $1::date and event_date < $2::date) as now,
            count(*) filter (where event_date < $1::date and event_date >= $1::date - $3::int) as then
        from facts group by all
        """, [window.start, window.end, _TRAILING_DAYS]).fetchall()
    counts = {measure: (now, then) for measure, now, then in rows}
    visits_now, visits_then = counts.get("encounter", (0, 0))
    if not visits_then:
        return []
    return [_collapse("yield_ratio", measure, counts.get(measure, (0, 0))[0],
                      counts.get(measure, (0, 0))[1] * visits_now / visits_then, window, rules, 2.0,
                      rules.yields.effect, rules.yields.ceiling, "comes at {ratio:.0%} of its usual rate per encounter")
            for measure in rules.yields.measures]


def _collapse(statistic: str, name: str, observed: int, expected: float, window: Window, rules: Rules, spread: float,
              effect: float, ceiling: float, sentence: str) -> DriftMetric:
    ratio, upper = rate_ratio(observed, expected, rules.confidence.level, spread)
    enough = expected >= rules.sample.expected
    breached = enough and ratio <= effect and upper <= ceiling
    reason = f"{name} {sentence.format(ratio=ratio)} ({window.name})" if breached else ""
    return DriftMetric("quality", name, f"{statistic}.{window.name}", ratio, effect if enough else None, breached,
                       window.name, int(expected), reason)


def _unseen(lake: DuckDBPyConnection, window: Window, rules: Rules) -> list[DriftMetric]:
    """Share of observations per source under codes or units that the source did not use before, or without a unit."""
    rows = lake.execute(
        f"""
        with observations as (select *, event_at::date as day from {_OBSERVATIONS}),
        windowed as (select * from observations where day >= $1::date and day < $2::date),
        usual as (select * from observations where day < $1::date and day >= $1::date - $3::int),
        known_codes as (
            select distinct source_id, unnest(codings).code as code from observations where day < $1::date
        ),
        known_units as (select distinct source_id, unit from observations where day < $1::date and unit is not null),
        code_lists as (select source_id, list(code) as codes from known_codes group by all),
        unit_lists as (select source_id, list(unit) as units from known_units group by all)
        select w.source_id, count(*), count(*) filter (where not list_has_any(l.codes, [c.code for c in w.codings])),
            count(*) filter (where w.unit is not null and not list_contains(coalesce(u.units, []), w.unit)),
            count(*) filter (where list_contains(w.flags, 'no_unit')),
            any_value(t.total), any_value(t.no_unit)
        from windowed w join code_lists l using (source_id) left join unit_lists u using (source_id)
        join (select source_id, count(*) as total, count(*) filter (where list_contains(flags, 'no_unit')) as no_unit
              from usual group by all) t using (source_id)
        group by w.source_id
        """, [window.start, window.end, _TRAILING_DAYS]).fetchall()
    found = []
    for source, total, codes, units, no_unit, usual, usual_no_unit in rows:
        if usual < rules.sample.reference:
            continue
        found += [
            _share("unseen_code_share_rise", source, (codes, total), (0, usual), "codes it never used", window, rules),
            _share("unseen_unit_share_rise", source, (units, total), (0, usual), "units it never used", window, rules),
            _share("no_unit_share_rise", source, (no_unit, total), (usual_no_unit, usual), "no unit", window, rules),
        ]
    return found


def _implausible(lake: DuckDBPyConnection, window: Window, rules: Rules) -> list[DriftMetric]:
    row = lake.execute(
        """
        with facts as (
            select event_date, is_plausible from clinical.core.fct_blood_pressure where is_current
            union all select event_date, is_plausible from clinical.core.fct_measurements where is_current
        )
        select count(*) filter (where event_date >= $1::date and not is_plausible),
            count(*) filter (where event_date >= $1::date),
            count(*) filter (where event_date < $1::date and not is_plausible),
            count(*) filter (where event_date < $1::date)
        from facts where event_date < $2::date and event_date >= $1::date - $3::int
        """, [window.start, window.end, _TRAILING_DAYS]).fetchone()
    if row is None or row[3] < rules.sample.reference:
        return []
    return [_share("implausible_share_rise", "all sources", row[:2], row[2:], "implausible values", window, rules)]


def _quarantined(lake: DuckDBPyConnection, window: Window, rules: Rules) -> list[DriftMetric]:
    rows = lake.execute(
        """
        with entries as (select source_id, as_of, unnest(counts) as c from clinical.raw.landings where as_of <= $2)
        select source_id, coalesce(sum(c.quarantined) filter (where as_of > $1), 0),
            coalesce(sum(c.received) filter (where as_of > $1), 0),
            coalesce(sum(c.quarantined) filter (where as_of <= $1), 0),
            coalesce(sum(c.received) filter (where as_of <= $1), 0)
        from entries group by all
        """, [window.start, window.end]).fetchall()
    return [_share("quarantined_share_rise", source, (int(a), int(b)), (int(c), int(d)), "what had to be quarantined",
                   window, rules)
            for source, a, b, c, d in rows if d >= rules.sample.reference]


def _share(statistic: str, source: str, now: tuple[int, int], then: tuple[int, int], what: str, window: Window,
           rules: Rules) -> DriftMetric:
    effect = share_rise(now, then, design_effect=rules.confidence.design_effect)
    reason = f"{source}: the share with {what} rose by {effect.value:.0%} ({effect.n} rows, {window.name})"
    return judged("quality", source, statistic, effect, rules.share, rules.confidence.level, window.name,
                  rules.sample.rows, reason, only_rise=True)


