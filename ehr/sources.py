"""What ``sources.toml`` declares of each source: authorities, local codes, time zone, whether dates are shifted."""

import tomllib
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from core.errors import ConfigurationError

DEFAULT_SOURCE = "default"


class Source(BaseModel):
    """One source. Every field has a sensible default, so that an undeclared hospital can be read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source_id: str
    title: str = ""
    time_zone: str = Field("UTC", description="IANA zone of times that carry no offset")
    dates_are_shifted: bool = Field(False, description="research extract: dates may lie in the future")
    known_at_fallback: str = Field(
        "receipt", pattern="^(receipt|event)$", description="'event' for a backfill that carries no version times"
    )
    default_charset: str = Field("utf-8", description="HL7 v2 without MSH-18")
    path_globs: tuple[str, ...] = Field((), description="files of this source, matched against the path")
    sending_facilities: tuple[str, ...] = Field((), description="MSH-4 values (namespace or OID) of this source")
    client_certificates: tuple[str, ...] = Field(
        (), description="common or DNS names of client certificates that may send as this source, where TLS is mutual"
    )
    kafka_topic: str = Field("", description="the hospital's own topic, read by `cuff relay`; one message a record")
    kafka_bootstrap: str = Field("", description="the hospital's own broker; default CUFF_KAFKA_BOOTSTRAP")
    kafka_format: Literal["hl7v2", "fhir"] = Field("hl7v2", description="what is on that topic")
    authorities: dict[str, str] = Field(
        default_factory=dict, description="identifier system URI or PID-3.4 namespace/OID -> authority name"
    )
    code_systems: dict[str, str] = Field(default_factory=dict, description="OBX-3.3 / DG1-3.3 name -> system URI")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        ZoneInfo(value)
        return value

    def authority(self, system_or_namespace: str | None) -> str | None:
        """The declared authority name, or the namespace itself marked as this source's own; None for nothing."""
        if not system_or_namespace:
            return None
        return self.authorities.get(system_or_namespace) or f"{self.source_id}:{system_or_namespace}"


def load_sources(path: Path) -> dict[str, Source]:
    """Every declared source by id, always with ``default``. Errors: `ConfigurationError` naming source and field."""
    try:
        declared = tomllib.loads(path.read_text()).get("source", {}) if path.exists() else {}
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path.name} is not TOML: {error}") from None
    sources = {}
    for source_id, fields in {DEFAULT_SOURCE: {}, **declared}.items():
        try:
            sources[source_id] = Source(source_id=source_id, **fields)
        except (ValidationError, KeyError, ValueError) as error:
            what = str(error)
            if isinstance(error, ValidationError):
                first = error.errors()[0]
                what = f"field {'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise ConfigurationError(f"{path.name}: source '{source_id}': {what}") from None
    return sources
