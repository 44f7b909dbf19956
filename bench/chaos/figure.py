"""What a chaos run reports: a figure, and what it must not pass."""

from dataclasses import dataclass
from typing import Literal

Size = Literal["small", "full"]


@dataclass(frozen=True)
class Figure:
    """``goal`` reads e.g. '<= 0'. ``note`` says with what it was measured, and where it failed what failed first."""

    name: str
    value: float
    unit: str
    goal: str
    note: str = ""

    @property
    def is_met(self) -> bool:
        sign, _space, bound = self.goal.partition(" ")
        return self.value >= float(bound) if sign == ">=" else self.value <= float(bound)
