"""How old a feature is, and whether it may be taken for present."""

from datetime import date
from typing import Literal

from ml.features.catalog import FEATURES

Status = Literal["present", "stale", "absent"]
_FRESH_DAYS = {feature.name: feature.fresh_days for feature in FEATURES}


def status_of(
    name: str, value: float | bool | str | None, observed_on: date | None, today: date
) -> tuple[Status, int | None]:
    """(status, age in days) of one value; the age is None where the value is absent or nobody said when it was observed.

    A value is stale when it is older than its feature's ``fresh_days``. One without a day was given by somebody who asks
    about it now: present. Errors: ``KeyError`` for a name that is no feature.
    """
    fresh_days = _FRESH_DAYS[name]
    if value is None or value != value:  # NaN
        return "absent", None
    if observed_on is None:
        return "present", None
    age_days = max((today - observed_on).days, 0)
    return ("present" if fresh_days is None or age_days <= fresh_days else "stale"), age_days
