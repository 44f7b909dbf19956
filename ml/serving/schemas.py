"""What the API takes and answers: strict, with units in the names and plausible ranges. Nothing unknown is let in.

A refusal names the field and the rule, never the value. A flag of wrong type is refused, a whole number is a number.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from ml.features.catalog import FEATURES, Feature
from ml.features.words import WORDS
from ml.serving.plausible import plausible_range

LARGEST_BATCH = 1000
NEEDED = frozenset({"age_years", "systolic_last_mmhg", "diastolic_last_mmhg"})
PatientKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$", min_length=32, max_length=32)]
Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$", min_length=1, max_length=64)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _without_default(schema: dict[str, Any]) -> None:
    """A field that may be left out, but not be null."""
    schema.pop("default", None)


class Identifier(_Strict):
    """A number of the hospital's. It is turned into a pseudonym at once, and neither kept nor logged."""

    system: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="Whose number it is, as sources.toml names the authority", examples=["SIMHOSP-MRN"])
    value: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(examples=["0000000"])


class RiskQuestion(_Strict):
    """One person, by pseudonym or by a number of the hospital's: exactly one of the two."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={
        "oneOf": [{"required": ["patient_key"]}, {"required": ["identifier"]}],
        "examples": [{"patient_key": "0" * 32}, {"identifier": {"system": "SIMHOSP-MRN", "value": "0000000"}}]})
    patient_key: PatientKey | SkipJsonSchema[None] = Field(None, json_schema_extra=_without_default)
    identifier: Identifier | SkipJsonSchema[None] = Field(None, json_schema_extra=_without_default)

    @model_validator(mode="before")
    @classmethod
    def _one_of_two(cls, given: Any) -> Any:
        if isinstance(given, dict) and ("patient_key" in given) == ("identifier" in given):
            raise PydanticCustomError("cuff_one_of_two", "give either patient_key or identifier")
        if isinstance(given, dict) and None in (given.get("patient_key", ""), given.get("identifier", "")):
            raise PydanticCustomError("cuff_null", "patient_key and identifier cannot be null")
        return given


def _field(feature: Feature) -> tuple[Any, Any]:
    described: dict[str, Any] = {"description": f"{feature.description}{f' [{feature.unit}]' if feature.unit else ''}",
                                 "examples": [feature.example]}
    if feature.dtype == "boolean":
        return bool | None, Field(None, **described)
    if feature.dtype == "category":
        return Literal[WORDS[feature.name]] | None, Field(None, **described)
    low, high = plausible_range(feature.name)
    number = Annotated[float, Field(ge=low, le=high, allow_inf_nan=False)]
    return (number, Field(**described)) if feature.name in NEEDED else (number | None, Field(None, **described))


FeatureValues: type[BaseModel] = create_model(
    "FeatureValues", __config__=ConfigDict(extra="forbid", strict=True, json_schema_extra={
        "examples": [{feature.name: feature.example for feature in FEATURES}]}),
    __doc__="Features of the model; what is left out is not known. Without age and a reading of pressure there is no risk to "
            "tell: the model is for people of whom both are known.", **{f.name: _field(f) for f in FEATURES})  # type: ignore[call-overload]


class GivenPerson(_Strict):
    """Somebody whose values the client gives. Nothing is looked up."""

    values: FeatureValues  # type: ignore[valid-type]
    reference: Reference | None = Field(None, description="The client's own name for this row; no patient's number",
                                        examples=["row-1"])


class ScoreQuestion(_Strict):
    """Up to 1,000 people."""

    people: Annotated[list[GivenPerson], Field(min_length=1, max_length=LARGEST_BATCH)]


class ReasonAnswer(BaseModel):
    feature: str
    text: str = Field(description="In plain words", examples=["Systolic pressure, mean of 12 months: 131 mmHg"])
    direction: Literal["raises", "lowers"]
    log_odds: float = Field(description="Share in the log odds of the risk, by CatBoost's SHAP values")


class InputAnswer(BaseModel):
    name: str
    value: float | bool | str | None
    unit: str = Field(description="UCUM; empty for words and flags")
    status: Literal["present", "stale", "absent"]
    age_days: int | None = Field(description="Days since it was observed; null where nobody said")


class ModelAnswer(BaseModel):
    name: str
    version: int
    build_id: int | None = Field(description="The published build that the inputs came from; null where they were given")
    clinical_snapshot: int | None
    feature_hash: str
    label_hash: str


class AssessmentAnswer(BaseModel):
    prediction_id: str
    reference: str | None = None
    risk_12_months: float = Field(ge=0, le=1, description="Calibrated probability of hypertension within 12 months")
    band: Literal["low", "moderate", "high"]
    reasons: list[ReasonAnswer]
    inputs: list[InputAnswer]
    model: ModelAnswer
    served_at: datetime


class NotAssessed(BaseModel):
    reason: str
    text: str


class RiskAnswer(BaseModel):
    """``assessments`` is empty, and ``not_assessed`` says why, where the model is not meant for this person."""

    assessments: list[AssessmentAnswer]
    not_assessed: NotAssessed | None = None
