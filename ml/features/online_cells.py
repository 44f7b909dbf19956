"""What every online store gives: the cells of patients as Feast wrote them, and which materialisation they stand for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

Row = dict[str, bytes]  # serialised values by column


@dataclass(frozen=True)
class Materialization:
    """A finished run: every row in the store with this number or a lower one is a row of this snapshot."""

    number: int
    build_id: int
    clinical_snapshot: int
    as_of: date


class OnlineCells(Protocol):
    """Safe to share between threads. Errors of every method: `FeatureStoreError` when the store does not answer."""

    def fetch(self, patient_keys: Sequence[str]) -> tuple[Materialization, list[Row | None]]:
        """The newest finished run, read before the rows, and the rows in the order asked for."""

    def patient_of(self, person_key: str) -> str | None:
        """The patient that the person is, where it is another's key."""

    def newest(self) -> Materialization:
        """The newest finished run."""

    def sample(self, number: int) -> list[str]:
        """Any ``number`` patient keys."""
