"""Golden predictions: what a model said of made-up people when it was registered, so that whoever serves it can see that it
still says the same. They belong to no real person: all derive from the examples of the catalog.

Kept beside the model as ``golden.json``; its digest is a tag of the version. A digest of the model's files proves that they
are the same files; this proves that they are still understood in the same way.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import ModelError
from ml.features.catalog import FEATURES, feature_hash
from ml.features.words import WORDS
from ml.model.risk_model import RiskModel

if TYPE_CHECKING:
    import pandas as pd

    from ml.model.row_scoring import RowScorer

GOLDEN_FILE, GOLDEN_TAG = "golden.json", "golden_digest"
# Another processor may round an exponential differently in its last digits; no wrong model comes this close.
_RELATIVE_TOLERANCE = 1e-9


def golden_people() -> list[dict[str, Any]]:
    """The example of the catalog; one of whom little is known; and each feature lower, higher, otherwise or missing."""
    whole = {feature.name: feature.example for feature in FEATURES}
    known = ("age_years", "sex", "systolic_last_mmhg", "diastolic_last_mmhg")
    people: list[dict[str, Any]] = [whole, {name: value if name in known else None for name, value in whole.items()}]
    for feature in FEATURES:
        others: tuple[Any, ...]
        if feature.dtype == "number":
            others = tuple(factor * float(feature.example) for factor in (0.75, 0.9, 1.1, 1.3))
        elif feature.dtype == "boolean":
            others = (not feature.example,)
        else:
            others = tuple(word for word in WORDS[feature.name] if word != feature.example)
        people += [whole | {feature.name: value} for value in (*others, None)]
    return people


def write_golden(model: RiskModel, folder: Path) -> str:
    """Write what the model says of the golden people into ``folder``; returns the file's digest."""
    people = golden_people()
    document = {"feature_hash": feature_hash(), "people": people, "risks": model.predict(_frame(people)).tolist()}
    (folder / GOLDEN_FILE).write_text(json.dumps(document, indent=1))
    return hashlib.sha256((folder / GOLDEN_FILE).read_bytes()).hexdigest()


def check_golden(model: RiskModel, rows: "RowScorer", folder: Path, tags: dict[str, str]) -> None:
    """Whether the model still says what it said, both by frame and by rows, and these two the same to the last bit.

    Errors: `ModelError` when it does not; when the predictions are absent, exchanged, or of other features; and for a version
    that was registered before golden predictions were kept: nothing shows that it is still understood.
    """
    if GOLDEN_TAG not in tags:
        raise ModelError("the version was registered without golden predictions; train a new one with `cuff train`")
    try:
        content = (folder / GOLDEN_FILE).read_bytes()
    except OSError:
        raise ModelError("the version's golden predictions are absent from the artifact store; restore it, or "
                         "`cuff rollback`") from None
    if hashlib.sha256(content).hexdigest() != tags[GOLDEN_TAG]:
        raise ModelError("the version's golden predictions are not those registered; do not use it, and `cuff rollback`")
    golden = json.loads(content)
    if golden["feature_hash"] != feature_hash():
        raise ModelError("the version's golden predictions are of other features; train a new one with `cuff train`")
    expected = np.array(golden["risks"])
    said = model.predict(_frame(golden["people"]))
    if not np.allclose(said, expected, rtol=_RELATIVE_TOLERANCE, atol=0):
        raise ModelError("the version no longer says what it said when it was registered; `cuff rollback`, then see what "
                         "changed: its files, CatBoost, or the code")
    scored = rows.score(golden["people"])
    if not np.array_equal(scored.risk, said):
        raise ModelError("the version says of a row by itself what it does not say of a frame; `cuff rollback`")
    if not np.allclose(rows.base + scored.shares.sum(axis=1), scored.log_odds, rtol=0, atol=_RELATIVE_TOLERANCE):
        raise ModelError("the version's reasons do not add up to what it says; `cuff rollback`")


def _frame(people: list[dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(people)
