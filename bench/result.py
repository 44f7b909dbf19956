"""What a bench reports: a figure of ours, the peer's, their ratio, and what the ratio should reach."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """``ratio`` is ours over the peer's in ``unit``; ``goal`` reads e.g. '>= 1.0'."""

    name: str
    ours: float
    peer: float
    unit: str
    peer_name: str
    goal: str
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.ours / self.peer if self.peer else float("nan")

    @property
    def is_met(self) -> bool:
        sign, _space, bound = self.goal.partition(" ")
        return self.ratio >= float(bound) if sign == ">=" else self.ratio <= float(bound)
