"""The live part of the demo: the HL7 v2 messages of night 2 over real MLLP, until all of them have landed."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.text import Text
from sqlalchemy import func, select

from core.errors import CuffError
from core.feed_tables import FeedHour, InboxEntry
from core.settings import Settings
from core.stack import Stack
from core.store import Payload, store_session

if TYPE_CHECKING:
    from ehr.live.send import SendSummary

CONNECTIONS, WINDOW = 4, 8
_RUBBISH_EVERY = 120  # a small hospital's month has a few hundred messages
_LAND_SECONDS = 300


class LiveDeliveryError(CuffError):
    """What was acknowledged did not land, or was not acknowledged."""

    exit_code = 10


@dataclass(frozen=True)
class Delivery:
    """What the hospital hands over in one night: files in a folder, and messages that it sends."""

    folder: Path
    messages: list[bytes]


def send_live(stack: Stack, console: Console, messages: list[bytes]) -> dict[str, Any]:
    """Send them as an interface engine does, and wait until the inbox has landed; returns what came of it.

    Errors: `LiveDeliveryError` when it does not land, `SendError` when nothing is acknowledged.
    """
    from ehr.live.address import MllpAddress
    from ehr.live.play import play, with_rubbish

    address = MllpAddress("127.0.0.1", stack.settings.mllp_port, False)
    sending = list(with_rubbish(messages, _RUBBISH_EVERY))
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        def show(now: "SendSummary") -> None:
            stack.require_alive()
            landed, waiting = _landed_and_waiting(stack.settings)
            live.update(Text(f"  over MLLP: {now.sent:,} of {len(sending):,} sent, {now.accepted:,} acknowledged, "
                             f"{landed:,} landed, {waiting:,} wait; {now.messages_per_second:,.0f} messages/s"))  # fmt: skip

        done = play(sending, address, connections=CONNECTIONS, window=WINDOW, on_progress=show)
        sent_at = time.monotonic()
        while True:
            show(done)
            landed, waiting = _landed_and_waiting(stack.settings)
            if not waiting:
                break
            if time.monotonic() - sent_at > _LAND_SECONDS:
                raise LiveDeliveryError(f"{waiting:,} acknowledged messages did not land within {_LAND_SECONDS} s; "
                                        f"see consumer.log under {stack.settings.var / 'logs'}")
            time.sleep(0.25)
    return done.as_dict() | {
        "repeated": _repeated(stack.settings), "landed": landed, "connections": CONNECTIONS,
        "landed_after_seconds": round(time.monotonic() - sent_at, 1),
    }  # fmt: skip


def live_lines(live: dict[str, Any]) -> list[str]:
    """The delivery in two sentences."""
    return [
        f"live over MLLP: {live['sent']:,} messages on {live['connections']} connections, "
        f"{live['messages_per_second']:,.0f} a second, {live['resent']:,} sent again",
        f"answers: {live['accepted']:,} AA ({live['repeated']:,} of them repeats), {live['errors']:,} AE, "
        f"{live['rejected']:,} AR; {live['landed']:,} landed, {live['landed_after_seconds']:.0f} s after the last",
    ]  # fmt: skip


def _repeated(settings: Settings) -> int:
    with store_session(settings) as session:
        return session.scalar(select(func.sum(FeedHour.repeated)).where(FeedHour.feed == "mllp")) or 0


def _landed_and_waiting(settings: Settings) -> tuple[int, int]:
    with store_session(settings) as session:
        found = dict(session.execute(
            select(Payload.state, func.count()).join(InboxEntry, InboxEntry.payload_id == Payload.payload_id)
            .where(InboxEntry.feed == "mllp").group_by(Payload.state)).all())  # type: ignore[arg-type]
    return found.get("landed", 0), found.get("received", 0)
