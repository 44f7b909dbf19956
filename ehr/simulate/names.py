"""Names, addresses, phones and numbers that look real and belong to nobody: put together from syllables by rule."""

from dataclasses import dataclass

from numpy.random import Generator

_STARTS = (
    "Bra",
    "Cel",
    "Dor",
    "Elm",
    "Far",
    "Gil",
    "Hes",
    "Jor",
    "Kal",
    "Lun",
    "Mir",
    "Nol",
    "Osk",
    "Pel",
    "Quin",
    "Ros",
    "Sel",
    "Tav",
    "Ulv",
    "Ver",
    "Wil",
    "Yor",
    "Zan",
    "Åse",
    "Bjö",
    "Çel",
    "Ñan",
    "Øye",
    "Šim",
    "Żel",
)
_MIDDLES = (
    "a",
    "be",
    "da",
    "é",
    "fi",
    "go",
    "hi",
    "ja",
    "ko",
    "li",
    "mo",
    "na",
    "ö",
    "pa",
    "ri",
    "so",
    "ta",
    "ü",
    "vi",
)
_ENDS = (
    "bert",
    "dale",
    "field",
    "gård",
    "hart",
    "ler",
    "mann",
    "nez",
    "quist",
    "ric",
    "son",
    "ström",
    "ton",
    "vic",
    "wen",
    "zak",
)
_GIVEN_ENDS_WOMAN = ("a", "elle", "ia", "ina", "lyn", "née", "sa")
_GIVEN_ENDS_MAN = ("an", "el", "io", "ko", "mir", "on", "ús")
_STREETS = ("Street", "Avenue", "Lane", "Road", "Court")


@dataclass(frozen=True, slots=True)
class Identity:
    """The direct identifiers of one made-up person."""

    family: str
    given: str
    street: str
    city: str
    postal_code: str
    phone: str
    mrn: str
    second_mrn: str


def draw_identity(rng: Generator, index: int, is_woman: bool) -> Identity:
    """One identity. The record numbers are a bijection of the index, so that no two people share one."""
    pick = [float(u) for u in rng.random(9)]

    def choose(options: tuple[str, ...], u: float) -> str:
        return options[int(u * len(options))]

    family = choose(_STARTS, pick[0]) + choose(_MIDDLES, pick[1]) + choose(_ENDS, pick[2])
    given = choose(_STARTS, pick[3]) + choose(_GIVEN_ENDS_WOMAN if is_woman else _GIVEN_ENDS_MAN, pick[4])
    street = f"{1 + int(pick[5] * 980)} {choose(_STARTS, pick[6])}{choose(_ENDS, pick[7])} {choose(_STREETS, pick[8])}"
    # 7919 is coprime with ten million: distinct indices give distinct numbers.
    number = (index * 7919 + 1234567) % 10_000_000
    return Identity(
        family=family,
        given=given,
        street=street,
        city=choose(_STARTS, pick[2]) + "ville",
        postal_code=f"0{int(pick[4] * 8999) + 1000}",
        phone=f"555-01{int(pick[1] * 100):02d}-{int(pick[7] * 10_000):04d}",
        mrn=f"2{number:07d}",
        second_mrn=f"7{number:07d}",
    )
