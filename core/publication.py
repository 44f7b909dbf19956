"""Write, audit, publish: the life of one build, and which snapshot numbers every reader sees.

`start_build` fixes what the build holds, `finish_build` notes the snapshots it wrote, the gates read exactly those, and
`publish` moves the published numbers of both catalogs together. `roll_back` is one row that names an older build.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from core.audit import record_audit
from core.errors import BuildError, NotPublishedError
from core.feed_tables import InboxEntry
from core.lake import SnapshotNumbers, current_snapshots
from core.settings import Settings
from core.store import Batch, Build, Payload, Publication, store_session, utc_now

_LONGEST_BUILD = timedelta(hours=3)  # one that says it builds for longer has died


@dataclass(frozen=True)
class Published:
    """What readers see now."""

    build_id: int
    clinical_snapshot: int
    analytics_snapshot: int
    as_of: date
    published_at: datetime
    manifest_hash: str | None

    @property
    def snapshots(self) -> SnapshotNumbers:
        return SnapshotNumbers(self.clinical_snapshot, self.analytics_snapshot)


def published(settings: Settings) -> Published:
    """The published build. Errors: `NotPublishedError` when there is none yet."""
    found = find_published(settings)
    if found is None:
        raise NotPublishedError("nothing has been published yet; run `cuff ingest` and `cuff build` first")
    return found


def find_published(settings: Settings) -> Published | None:
    """The published build, or None when there is none yet."""
    with store_session(settings) as session:
        found = _newest(session)
        if found is None:
            return None
        publication, build = found
        return Published(
            build.build_id,
            publication.clinical_snapshot,
            publication.analytics_snapshot,
            publication.as_of,
            publication.published_at,
            build.manifest_hash,
        )


def start_build(settings: Settings, as_of: date | None = None) -> Build:
    """Open a build over every landed batch. ``as_of`` defaults to the newest ``as_of`` among them."""
    with store_session(settings) as session:
        landed = session.execute(
            select(func.max(Batch.batch_id), func.max(Batch.as_of)).where(Batch.finished_at.is_not(None))
        ).one()
        if landed[0] is None:
            raise BuildError("no extract has landed yet, so there is nothing to build; run `cuff ingest PATH` first")
        newest = _newest(session)
        for stale in session.scalars(select(Build).where(Build.state.in_(("building", "built")))):
            stale.state, stale.failure, stale.finished_at = "failed", "superseded by a later build", utc_now()
        build = Build(
            as_of=as_of or landed[1],
            since_batch_id=newest[1].through_batch_id if newest else 0,
            through_batch_id=landed[0],
        )
        session.add(build)
        session.flush()
        return build


def get_build(settings: Settings, build_id: int | None = None) -> Build:
    """A build by number, or the newest. Errors: `BuildError` when there is none."""
    with store_session(settings) as session:
        found = (
            session.get(Build, build_id)
            if build_id is not None
            else session.scalars(select(Build).order_by(Build.build_id.desc()).limit(1)).first()
        )
        if found is None:
            raise BuildError(
                f"build {build_id or ''} does not exist; `cuff status` lists the newest".replace("  ", " ")
            )
        return found


def note_manifest(settings: Settings, build_id: int, manifest_hash: str) -> None:
    """Note, before the first row is written, which SQL and seeds a build works with."""
    with store_session(settings) as session:
        build = session.get(Build, build_id)
        if build is not None:
            build.manifest_hash = manifest_hash


def rows_made_by(settings: Settings) -> set[str]:
    """The manifest hashes of all builds that may have rows in the tables: the published one and every one since."""
    with store_session(settings) as session:
        newest = _newest(session)
        since = newest[1].build_id if newest else 0
        found = session.scalars(
            select(Build.manifest_hash).where(Build.build_id >= since, Build.manifest_hash.is_not(None)))
        return {each for each in found if each is not None}


def has_unpublished_batches(settings: Settings) -> bool:
    """Whether a batch has landed that the newest publication does not hold."""
    with store_session(settings) as session:
        landed = session.scalar(select(func.max(Batch.batch_id)).where(Batch.finished_at.is_not(None)))
        newest = _newest(session)
        return landed is not None and (newest is None or landed > newest[1].through_batch_id)


def live_landing_due(settings: Settings) -> int | None:
    """The newest landed batch, when something that arrived live has waited `CUFF_WAKE_SECONDS` for a build and none is
    under way; None otherwise.

    Files start a build themselves. A build that failed has told people so: only what landed since wakes another.
    """
    with store_session(settings) as session:
        newest = session.scalar(select(func.max(Build.through_batch_id))) or 0
        under_way = session.scalar(
            select(func.count()).select_from(Build)
            .where(Build.state.in_(("building", "built")), Build.started_at > utc_now() - _LONGEST_BUILD))
        if under_way:
            return None
        is_live = exists().where(Payload.batch_id == Batch.batch_id, Payload.payload_id == InboxEntry.payload_id,
                                 InboxEntry.feed != "file")  # fmt: skip
        waiting_since = session.scalar(
            select(Batch.finished_at).where(Batch.batch_id > newest, Batch.finished_at.is_not(None), is_live)
            .order_by(Batch.batch_id).limit(1))
        if waiting_since is None or utc_now() - waiting_since < timedelta(seconds=settings.wake_seconds):
            return None
        return session.scalar(select(func.max(Batch.batch_id)).where(Batch.finished_at.is_not(None)))


def finish_build(settings: Settings, build_id: int, manifest_hash: str | None = None) -> Build:
    """Note the snapshots that the build wrote: the gates and the publication read at exactly these numbers."""
    numbers = current_snapshots(settings)
    with store_session(settings) as session:
        build = _require_state(session, build_id, "building")
        build.clinical_snapshot, build.analytics_snapshot = numbers.clinical, numbers.analytics
        build.state, build.manifest_hash = "built", manifest_hash or build.manifest_hash
        return build


def fail_build(settings: Settings, build_id: int, why: str) -> None:
    """Mark a build failed, unless it was published meanwhile."""
    with store_session(settings) as session:
        build = session.get(Build, build_id)
        if build is not None and build.state in ("building", "built"):
            build.state, build.failure, build.finished_at = "failed", why[:500], utc_now()


def publish(settings: Settings, build_id: int, actor: str) -> Published:
    """Make a built and gated build the one that readers see."""
    with store_session(settings) as session:
        build = _require_state(session, build_id, "built")
        assert build.clinical_snapshot is not None
        assert build.analytics_snapshot is not None
        session.add(
            Publication(
                build_id=build_id,
                clinical_snapshot=build.clinical_snapshot,
                action="publish",
                analytics_snapshot=build.analytics_snapshot,
                as_of=build.as_of,
                actor=actor,
            )
        )
        build.state, build.finished_at = "published", utc_now()
        record_audit(session, actor, "publish", f"build {build_id}", "ok")
    return published(settings)


def roll_back(settings: Settings, build_id: int, actor: str, why: str) -> Published:
    """Make an earlier published build the one that readers see again."""
    with store_session(settings) as session:
        build = _require_state(session, build_id, "published")
        assert build.clinical_snapshot is not None
        assert build.analytics_snapshot is not None
        session.add(
            Publication(
                build_id=build_id,
                clinical_snapshot=build.clinical_snapshot,
                action="rollback",
                analytics_snapshot=build.analytics_snapshot,
                as_of=build.as_of,
                actor=actor,
                why=why,
            )
        )
        record_audit(session, actor, "roll back publication", f"build {build_id}", "ok")
    return published(settings)


def _newest(session: Session) -> tuple[Publication, Build] | None:
    row = session.execute(
        select(Publication, Build)
        .join(Build, Build.build_id == Publication.build_id)
        .order_by(Publication.publication_id.desc())
        .limit(1)
    ).first()
    return (row[0], row[1]) if row else None


def _require_state(session: Session, build_id: int, state: str) -> Build:
    build = session.get(Build, build_id)
    if build is None or build.state != state:
        found = build.state if build else "absent"
        raise BuildError(f"build {build_id} is {found}, not {state}; start a new one with `cuff build`")
    return build
