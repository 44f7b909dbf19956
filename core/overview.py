"""What a person on the night shift wants to see first; also what `cuff status --json` gives to machines."""

from typing import Any

from sqlalchemy import func, select

from core.errors import NotPublishedError
from core.publication import published
from core.settings import Settings
from core.store import Alert, DriftVerdict, LedgerEntry, ModelEvent, Quarantine, store_session

_COUNTS = ("received", "accepted", "duplicate", "ignored", "quarantined")


def overview(settings: Settings, alerts: int = 5) -> dict[str, Any]:
    """Ledger by source and unit, open quarantine by reason, published build, champion, last verdict, newest alerts."""
    try:
        found = published(settings)
        shown: dict[str, Any] | None = {
            "build_id": found.build_id, "as_of": found.as_of, "published_at": found.published_at,
            "clinical_snapshot": found.clinical_snapshot, "analytics_snapshot": found.analytics_snapshot,
        }  # fmt: skip
    except NotPublishedError:
        shown = None
    with store_session(settings) as session:
        sums = [func.sum(getattr(LedgerEntry, name)) for name in _COUNTS]
        keys = (LedgerEntry.source_id, LedgerEntry.unit)
        ledger = [
            {"source": row[0], "unit": row[1], **{n: int(v) for n, v in zip(_COUNTS, row[2:], strict=True)}}
            for row in session.execute(select(*keys, *sums).group_by(*keys).order_by(*keys))
        ]
        for line in ledger:
            line["balances"] = line["received"] == sum(line[name] for name in _COUNTS[1:])
        number = func.count()
        reasons = (
            select(Quarantine.reason_code, Quarantine.type, number)
            .where(Quarantine.state == "open")
            .group_by(Quarantine.reason_code, Quarantine.type)
            .order_by(number.desc())
        )
        quarantine = [{"reason": row[0], "type": row[1], "open": row[2]} for row in session.execute(reasons)]
        champion = session.scalars(
            select(ModelEvent)
            .where(ModelEvent.action.in_(("promoted", "rolled_back")))
            .order_by(ModelEvent.model_event_id.desc())
            .limit(1)
        ).first()
        verdict = session.scalars(
            select(DriftVerdict).order_by(DriftVerdict.drift_verdict_id.desc()).limit(1)
        ).first()
        newest = session.scalars(select(Alert).order_by(Alert.alert_id.desc()).limit(alerts))
        return {
            "ledger": ledger,
            "quarantine": quarantine,
            "published": shown,
            "champion": champion and {
                "version": champion.model_version, "since": champion.happened_at, "actor": champion.actor,
                "why": champion.why,
            },
            "drift": verdict and {
                "verdict": verdict.verdict, "as_of": verdict.as_of, "model_version": verdict.model_version,
                "reasons": "; ".join(map(str, verdict.reasons)),
            },
            "alerts": [
                {"raised_at": a.raised_at, "severity": a.severity, "kind": a.kind, "summary": a.summary} for a in newest
            ],
        }  # fmt: skip
