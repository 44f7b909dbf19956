"""What a feed usually sends in an hour, learned from the hours behind it, and how much of that did not come."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from statistics import median

HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)


@dataclass(frozen=True)
class FeedRules:
    """The numbers of ``feed_rules.toml`` for one kind of feed; what they mean stands there."""

    rate_minutes: float
    alive_minutes: float
    weeks: int
    weeks_needed: int
    days: int
    days_needed: int
    neighbour_hours: int
    silent_minutes: float
    missed: float
    steady_per_hour: float
    look_back_days: int
    stuck_minutes: float


@lru_cache(maxsize=8)
def feed_rules(feed: str) -> FeedRules:
    """The rules for ``mllp``, ``http``, ``kafka`` or ``file``."""
    told = tomllib.loads((Path(__file__).parent / "feed_rules.toml").read_text())
    history, silence, landing = told["history"], told["silence"], told["landing"]
    special = silence.get(feed, {})
    return FeedRules(
        rate_minutes=told["rate"]["minutes"], alive_minutes=told["rate"]["alive_minutes"], weeks=history["weeks"],
        weeks_needed=history["weeks_needed"], days=history["days"], days_needed=history["days_needed"],
        neighbour_hours=special.get("neighbour_hours", history["neighbour_hours"]), silent_minutes=silence["minutes"],
        missed=special.get("missed", silence["missed"]), steady_per_hour=silence["steady_per_hour"],
        look_back_days=silence["look_back_days"],
        stuck_minutes=landing.get(f"stuck_minutes_{feed}", landing["stuck_minutes"]),
    )  # fmt: skip


def hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


class History:
    """Messages of one feed by hour (UTC, on the hour); an hour that is not there brought none."""

    def __init__(self, received: Mapping[datetime, int], rules: FeedRules) -> None:
        self._received, self._rules = received, rules
        self._first = min(received, default=None)

    def expected(self, hour_at: datetime) -> float | None:
        """Messages an hour like this usually brings; None while there is too little history to say."""
        weekly = self._before(hour_at, WEEK, self._rules.weeks)
        if len(weekly) >= self._rules.weeks_needed:
            return float(median(weekly))
        daily = self._before(hour_at, DAY, self._rules.days)
        return float(median(daily)) if len(daily) >= self._rules.days_needed else None

    def missed(self, since: datetime, now: datetime) -> float:
        """How many messages should have come between two times, carefully judged: see `neighbour_hours` and
        `steady_per_hour` in the rules. 0 where nothing is known."""
        since = max(since, now - self._rules.look_back_days * DAY)
        total, hour_at = 0.0, hour_of(since)
        while hour_at < now:
            share = (min(now, hour_at + HOUR) - max(since, hour_at)) / HOUR
            usual = self._careful(hour_at)
            if share >= 1 or usual >= self._rules.steady_per_hour:
                total += share * usual
            hour_at += HOUR
        return total

    def _careful(self, hour_at: datetime) -> float:
        around = range(-self._rules.neighbour_hours, self._rules.neighbour_hours + 1)
        return min(self.expected(hour_at + step * HOUR) or 0.0 for step in around)

    def _before(self, hour_at: datetime, step: timedelta, steps: int) -> list[int]:
        """The hours ``step`` apart before this one, as far back as the feed is known."""
        if self._first is None:
            return []
        hours = [hour_at - number * step for number in range(1, steps + 1)]
        return [self._received.get(hour, 0) for hour in hours if hour >= self._first]
