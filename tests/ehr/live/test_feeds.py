"""Alive, quiet as expected, silent, stuck: judged from made-up hours of history, and told once."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from core.store import Alert, Payload, Quarantine, store_session, utc_now
from ehr.ingest import ingest
from ehr.live.expected import History, feed_rules
from ehr.live.feed_alerts import watch_feeds
from ehr.live.feeds import duration, hours_of_feeds, list_feeds
from tests.ehr.live.feed_history import HOUR, MONDAY_NOON, clinic, nightly_files, put_into_inbox, remember

MINUTE = timedelta(minutes=1)


def kinds(alerts: list[Alert]) -> list[str]:
    return [alert.kind for alert in alerts]


def the_feed(settings, now):
    (feed,) = list_feeds(settings, now)
    return feed


def test_a_feed_at_work_is_alive(settings):
    remember(settings, MONDAY_NOON + 30 * MINUTE, repeated=1, refused=2)
    put_into_inbox(settings, [MONDAY_NOON + (30 - number / 4) * MINUTE for number in range(1, 41)], state="landed")
    feed = the_feed(settings, MONDAY_NOON + 31 * MINUTE)
    assert (feed.source_id, feed.feed, feed.state, feed.is_stuck) == ("st_elsewhere", "mllp", "alive", False)
    assert feed.per_minute == pytest.approx(16 / 5)  # one each 15 s, the last one 75 s ago
    assert feed.per_minute_last_hour == pytest.approx((206 + (1 - 31 / 60) * 411) / 60)
    assert feed.expected_per_minute == pytest.approx(412 / 60)
    assert (feed.silent_seconds, feed.why) == (60, "last message 60 s ago")
    assert feed.received == feed.accepted + feed.repeated + feed.refused
    assert feed.refused == 2 * feed.repeated > 0
    assert watch_feeds(settings, MONDAY_NOON + 31 * MINUTE) == []


def test_silence_at_night_and_on_sunday_is_quiet_as_expected(settings):
    for until, now in ((datetime(2026, 3, 3, 18, tzinfo=UTC), datetime(2026, 3, 4, 6, 59, tzinfo=UTC)),
                       (datetime(2026, 3, 6, 18, tzinfo=UTC), datetime(2026, 3, 7, 6, 30, tzinfo=UTC))):
        remember(settings, until)
        assert the_feed(settings, now).state == "quiet"
        assert watch_feeds(settings, now) == []


def test_silence_at_a_busy_hour_is_told_once_and_once_when_it_is_over(settings):
    remember(settings, MONDAY_NOON)
    assert watch_feeds(settings, MONDAY_NOON + 18 * MINUTE) == []  # shorter than an engine's restart
    (alert,) = watch_feeds(settings, MONDAY_NOON + 25 * MINUTE)
    assert (alert.severity, alert.kind) == ("critical", "feed_silent")
    assert alert.summary.startswith("st_elsewhere over mllp is silent: nothing for 25 min, when about 17")
    for later in (35, 45, 60, 60 * 20, 60 * 24):
        assert watch_feeds(settings, MONDAY_NOON + later * MINUTE) == []
        assert the_feed(settings, MONDAY_NOON + later * MINUTE).state == "silent"
    back = MONDAY_NOON + 24.5 * HOUR
    remember(settings, back, weeks=0.004)
    assert kinds(watch_feeds(settings, back + MINUTE)) == ["feed_back"]
    assert watch_feeds(settings, back + 11 * MINUTE) == []
    assert kinds(watch_feeds(settings, back + 22 * HOUR)) == ["feed_silent"]  # the next silence is news again


def test_a_clinic_that_opens_an_hour_later_than_usual_wakes_nobody(settings):
    remember(settings, datetime(2026, 3, 2, 18, tzinfo=UTC))
    assert watch_feeds(settings, datetime(2026, 3, 3, 7, 59, tzinfo=UTC)) == []
    assert kinds(watch_feeds(settings, datetime(2026, 3, 3, 8, 59, tzinfo=UTC))) == ["feed_silent"]


def test_a_new_feed_is_not_judged(settings):
    remember(settings, MONDAY_NOON, weeks=3 / 7)
    now = MONDAY_NOON + 5 * HOUR
    assert the_feed(settings, now).state == "new"
    assert "too little history" in the_feed(settings, now).why
    assert watch_feeds(settings, now) == []


def test_a_feed_of_ten_days_is_judged_by_the_hour_of_the_day(settings):
    wednesday = datetime(2026, 3, 4, 12, tzinfo=UTC)
    remember(settings, wednesday, weeks=10 / 7)
    assert kinds(watch_feeds(settings, wednesday + HOUR)) == ["feed_silent"]


def test_a_feed_that_ended_for_good_is_not_told_again_and_is_forgotten_in_time(settings):
    remember(settings, MONDAY_NOON)
    now, told = MONDAY_NOON, []
    while now < MONDAY_NOON + timedelta(days=70):
        now += 7 * HOUR
        told += kinds(watch_feeds(settings, now))
    assert told == ["feed_silent"]
    assert the_feed(settings, now).state in ("quiet", "new")


def test_files_that_do_not_come_at_their_hour_are_missed_when_it_is_over(settings):
    remember(settings, MONDAY_NOON, feed="file", rhythm=nightly_files)
    assert watch_feeds(settings, datetime(2026, 3, 3, 2, 50, tzinfo=UTC)) == []
    (alert,) = watch_feeds(settings, datetime(2026, 3, 3, 3, 10, tzinfo=UTC))
    assert "about 3 messages were to be expected" in alert.summary


def test_a_slow_feed_is_judged_by_whole_hours(settings):
    remember(settings, MONDAY_NOON, rhythm=lambda hour_at: 6)
    assert watch_feeds(settings, MONDAY_NOON + 119 * MINUTE) == []  # 6 missed
    assert kinds(watch_feeds(settings, MONDAY_NOON + 120 * MINUTE)) == ["feed_silent"]  # 12


def test_acknowledged_messages_that_do_not_land_are_told_once_and_when_they_land(settings):
    remember(settings, MONDAY_NOON)
    ids = put_into_inbox(settings, [MONDAY_NOON - 14 * MINUTE, MONDAY_NOON - 2 * MINUTE])
    assert watch_feeds(settings, MONDAY_NOON) == []
    remember(settings, MONDAY_NOON + 5 * MINUTE)
    (alert,) = watch_feeds(settings, MONDAY_NOON + 5 * MINUTE)
    assert (alert.severity, alert.kind) == ("critical", "feed_stuck")
    assert alert.summary.startswith("st_elsewhere over mllp: 2 acknowledged messages do not land, the oldest waits for 19 min")
    feed = the_feed(settings, MONDAY_NOON + 5 * MINUTE)
    assert (feed.waiting, feed.waiting_seconds, feed.is_stuck) == (2, 19 * 60, True)
    assert watch_feeds(settings, MONDAY_NOON + 6 * MINUTE) == []
    with store_session(settings) as session:
        session.execute(update(Payload).where(Payload.payload_id.in_(ids)).values(state="landed"))
    assert kinds(watch_feeds(settings, MONDAY_NOON + 7 * MINUTE)) == ["feed_landing"]
    assert watch_feeds(settings, MONDAY_NOON + 8 * MINUTE) == []


def test_feeds_are_judged_apart_and_quarantine_is_counted_by_reason(settings):
    remember(settings, MONDAY_NOON)
    remember(settings, MONDAY_NOON + 40 * MINUTE, source_id="charity", feed="http")
    (payload_id,) = put_into_inbox(settings, [MONDAY_NOON], state="quarantined", source_id="charity", feed="http")
    with store_session(settings) as session:
        for number, (reason, state) in enumerate((("no_id", "open"), ("no_id", "open"), ("bad_date", "open"),
                                                  ("no_time", "replayed"))):
            session.add(Quarantine(quarantine_id=str(number), payload_id=payload_id, source_id="charity", unit="resource",
                                   type="Patient", locator=f"entry {number}", reason_code=reason, state=state))
    now = MONDAY_NOON + 41 * MINUTE
    charity, elsewhere = list_feeds(settings, now)
    assert (charity.source_id, charity.state, charity.quarantined) == ("charity", "alive", 3)
    assert list(charity.top_reasons.items()) == [("no_id", 2), ("bad_date", 1)]
    assert (elsewhere.source_id, elsewhere.state, elsewhere.top_reasons) == ("st_elsewhere", "silent", {})
    (alert,) = watch_feeds(settings, now)
    assert alert.detail["source_id"] == "st_elsewhere"


def test_the_chart_has_every_hour_with_what_was_expected(settings):
    remember(settings, MONDAY_NOON + 30 * MINUTE)
    (hours,) = hours_of_feeds(settings, now=MONDAY_NOON + 31 * MINUTE).values()
    assert [hour.hour_at for hour in hours] == [MONDAY_NOON - number * HOUR for number in range(47, -1, -1)]
    assert [hour.received for hour in hours[:-1]] == [clinic(hour.hour_at) for hour in hours[:-1]]
    assert [hour.expected for hour in hours] == [clinic(hour.hour_at) for hour in hours]


def test_one_outage_does_not_change_what_is_expected():
    received = {MONDAY_NOON - timedelta(weeks=week): 100 for week in range(1, 8) if week != 2}
    assert History(received, feed_rules("mllp")).expected(MONDAY_NOON) == 100
    assert History({}, feed_rules("mllp")).expected(MONDAY_NOON) is None


def test_files_are_a_feed_too(settings, tmp_path):
    for name in ("first", "second"):
        path = tmp_path / "night" / f"{name}.hl7"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(f"MSH|^~\\&|SIM|ST|||20260101||ADT^A28|{name}|P|2.5.1\rPID|1||{name}^^^ST^MR\r".encode())
        ingest(settings, [path.parent])
    feed = the_feed(settings, utc_now())
    assert (feed.source_id, feed.feed, feed.state) == ("default", "file", "alive")
    assert (feed.received, feed.accepted, feed.repeated, feed.waiting) == (3, 2, 1, 0)


def test_nothing_ever_came(settings):
    assert list_feeds(settings) == []
    assert watch_feeds(settings) == []


@pytest.mark.parametrize(("seconds", "text"), [(None, "ever"), (0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"),
                                               (9000, "2 h"), (200_000, "2 d")])
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text
