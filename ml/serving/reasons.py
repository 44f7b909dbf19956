"""The inputs that move a person's risk most, in plain words: what it is, which way, and how much."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ml.serving.plain_words import LABELS, SHOWN_UNITS

MOST = 5
_TOO_LITTLE = math.log(1.02)  # a factor of 1.02 on the odds moves nothing that anybody would act on


@dataclass(frozen=True)
class Reason:
    """``log_odds`` is the share of this input in the log odds of the answered risk, beside an ordinary person."""

    feature: str
    text: str
    direction: Literal["raises", "lowers"]
    log_odds: float


def top_reasons(features: Sequence[str], values: Mapping[str, object], shares: Sequence[float]) -> tuple[Reason, ...]:
    """At most five, the strongest first. An input that is absent is none: nothing is explained by what is not known."""
    told = [(share, name) for share, name in zip(shares, features, strict=True)
            if abs(share) >= _TOO_LITTLE and values.get(name) is not None]  # fmt: skip
    told.sort(key=lambda each: -abs(each[0]))
    return tuple(_reason(name, values[name], share) for share, name in told[:MOST])


def _reason(name: str, value: object, share: float) -> Reason:
    direction: Literal["raises", "lowers"] = "raises" if share > 0 else "lowers"
    factor = math.exp(abs(share))
    size = f"odds {'times' if share > 0 else 'divided by'} {factor:.2f}"
    return Reason(name, f"{LABELS[name]}: {_shown(name, value)} {direction} the risk ({size})", direction, share)


def _shown(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:.3g} {SHOWN_UNITS[name]}".rstrip() if abs(value) < 1000 else f"{value:.0f} {SHOWN_UNITS[name]}".rstrip()
    return str(value)
