"""What the door makes of a message before it is stored: its source, its identity, and whether it has a fault."""

import logging
from collections.abc import Callable

from core.errors import ConfigurationError
from core.keys import key_bytes
from core.settings import Settings
from ehr.hl7v2.plain import judge_plain
from ehr.hl7v2.read import Judged, judge_message
from ehr.live.acknowledgement import TOO_LARGE, Header, read_header
from ehr.live.inbox import Received
from ehr.live.mllp import START, Event
from ehr.records import Reject
from ehr.sources import DEFAULT_SOURCE, Source, load_sources

logger = logging.getLogger("cuff.live")
_OUTSIDE = Reject("message", "unknown", "between frames", "outside_frame", "bytes outside a frame")
_KEPT_OF_A_LARGE_FRAME_BYTES = 64 << 10
PeerNames = frozenset[str] | None  # names of the client's certificate; None where none is asked for


class Checker:
    """Judges messages of any feed. ``sources``: what `sources.toml` declares."""

    def __init__(self, settings: Settings, sources: dict[str, Source] | None = None) -> None:
        self._file = settings.sources_file
        self._changed_ns = self._last_change()
        self._declare(sources if sources is not None else load_sources(self._file))
        self.pseudonym_key = key_bytes(settings.pseudonym_secret, "CUFF_PSEUDONYM_SECRET")

    def look_at_sources(self) -> None:
        """Read `sources.toml` again where it was changed; one that cannot be used changes nothing."""
        if (changed_ns := self._last_change()) == self._changed_ns:
            return
        self._changed_ns = changed_ns
        try:
            self._declare(load_sources(self._file))
        except (ConfigurationError, OSError) as error:
            logger.error("the changed sources are not used: %s", error)

    def _declare(self, sources: dict[str, Source]) -> None:
        self.sources = sources
        self._by_facility = {name: source for source in sources.values() for name in source.sending_facilities}

    def _last_change(self) -> int:
        return self._file.stat().st_mtime_ns if self._file.exists() else 0

    def hl7v2(self, content: bytes, feed: str, names: PeerNames = None, own: Source | None = None) -> Received:
        """A whole message. ``own``: the source of a facility that no source declares."""
        own = own or self.sources[DEFAULT_SOURCE]
        try:
            source_for = self._source_for(own)
            judged = (judge_plain(content, source_for, self.pseudonym_key)
                      or judge_message(content, source_for, self.pseudonym_key))  # fmt: skip
        except Exception as error:  # a fault of the reader's: the sender would send it again for ever
            logger.error("the reader ended with %s on a message of %d bytes", type(error).__name__, len(content))
            judged = Judged("unknown", own, reject=Reject("message", "unknown", "message 1", "reader_failed",
                                                          f"the reader ended with {type(error).__name__}"))  # fmt: skip
        reject = judged.reject
        if names is not None and not names & set(judged.source.client_certificates):
            reject = Reject("message", judged.type, "message 1 MSH-4", "certificate_mismatch",
                            "the client's certificate is not bound to this sending facility")  # fmt: skip
        kind = "unknown" if reject is not None and reject.reason_code == "no_msh" else "hl7v2"
        return Received(content, kind, judged.source.source_id, feed, "message", judged.type,
                        None if reject else judged.message_key, judged.person_key, reject)  # fmt: skip

    def event(self, event: Event, feed: str, names: PeerNames = None) -> tuple[Received, Header]:
        """What came over an MLLP connection, with the header its answer needs."""
        if event.kind == "frame":
            return self.hl7v2(event.content, feed, names), read_header(event.content)
        if event.kind == "cut":
            # With its opening byte the reader, too, sees a frame that never ended.
            return self.hl7v2(START + event.content, feed, names), read_header(event.content)
        content = event.content if event.kind == "outside" else event.content[:_KEPT_OF_A_LARGE_FRAME_BYTES]
        reject = _OUTSIDE if event.kind == "outside" else TOO_LARGE
        header = read_header(content) if event.kind == "too_large" else Header()
        source = self.sources[DEFAULT_SOURCE]
        return Received(content, "unknown", source.source_id, feed, "message", "unknown", reject=reject), header

    def _source_for(self, own: Source) -> Callable[[str | None], Source]:
        return lambda facility: self._by_facility.get(facility or "", own)
