"""What each feature adds to the trees: CatBoost's own SHAP values, worked out once for every leaf of every tree.

An oblivious tree gives all rows of a leaf the same SHAP values, so they can be asked for when the model is loaded, and a
row's are the sum over the leaves that it falls into: a look-up instead of milliseconds. CatBoost itself says the leaves.

It also makes them the row's own. Where monotone constraints leave a value in a leaf that no training row is in, CatBoost counts
the rows it is asked about into the leaves' weights, so that its answer depends on who is asked about together
(https://github.com/catboost/catboost/issues/1956). Here each leaf is asked for with a weight of next to nothing.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.evaluation.bootstrap import Floats
from ml.features.words import WORDS

_ROWS_AT_ONCE = 64  # what they need of the table stays in the processor's cache
_ANOTHER_WORD = "none of the words"
_NEXT_TO_NOTHING = 1e-9  # of a training row; what CatBoost tells from nothing begins at 1e-13
Row = list[float | str]


class TreeShares:
    """Tables of one CatBoost model over ``features``; categories are at ``categorical``, counted in the features."""

    def __init__(self, trees: Any, features: Sequence[str], categorical: Sequence[int], missing_word: str) -> None:
        self._trees, self._width = trees, len(features)
        structure = _structure(trees, features, categorical, missing_word)
        leaves = max((2 ** len(splits) for splits in structure), default=1)
        self._tables = np.zeros((len(structure), leaves, self._width))
        self._is_known = np.zeros((len(structure), leaves), dtype=bool)
        self._first_leaf = np.arange(len(structure)) * leaves
        for number, splits in enumerate(structure):
            self._fill(number, splits, categorical)
        self._flat = self._tables.reshape(-1, self._width)
        self._flat_known = self._is_known.reshape(-1)
        anybody = [_row({}, self._width, categorical)]
        self.base = float(_shap(trees, _pool(anybody, categorical))[0, -1])  # what the trees say of nobody in particular

    def of(self, pool: Any) -> Floats:
        """Shares (n, features) of each row of a CatBoost ``Pool``; with `base` they add up to the trees' log odds."""
        leaves = self._trees.calc_leaf_indexes(pool, thread_count=1).astype(np.int64) + self._first_leaf
        shares = np.empty((len(leaves), self._width))
        for start in range(0, len(leaves), _ROWS_AT_ONCE):
            some = leaves[start:start + _ROWS_AT_ONCE]
            shares[start:start + _ROWS_AT_ONCE] = self._flat.take(some, axis=0).sum(axis=1)
        if not (known := self._flat_known.take(leaves).all(axis=1)).all():
            # A word that only the training knew: CatBoost is asked itself.
            shares[~known] = _shap(self._trees, pool)[~known, :-1]
        return shares

    def _fill(self, number: int, splits: list["_Split"], categorical: Sequence[int]) -> None:
        rows = list(_row_of_each_leaf(splits, self._width, categorical))
        if not rows:
            return
        pool = _pool(rows, categorical)
        alone = self._trees.copy()
        alone.shrink(number + 1, number)
        leaves = alone.calc_leaf_indexes(pool, thread_count=1)[:, 0]
        self._tables[number, leaves] = _shap(alone, pool)[:, :-1]
        self._is_known[number, leaves] = True


class _Split:
    """One question of a tree. ``word`` is None for a number; '' where no word of ours has the hash asked for."""

    def __init__(self, place: int, border: float = 0.0, word: str | None = None) -> None:
        self.place, self.border, self.word = place, border, word


def _structure(trees: Any, features: Sequence[str], categorical: Sequence[int], missing_word: str) -> list[list[_Split]]:
    """The questions of each tree."""
    longest = max((len(WORDS.get(features[place], ())) for place in categorical), default=0) + 2
    known = [_row({place: (*WORDS.get(features[place], ()), missing_word, *(_ANOTHER_WORD,) * longest)[number]
                   for place in categorical}, len(features), categorical) for number in range(longest)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        trees.save_model(str(path), format="json", pool=_pool(known, categorical))
        told = json.loads(path.read_text())
    about = told["features_info"]
    numbers = {each["feature_index"]: each["flat_feature_index"] for each in about.get("float_features", ())}
    words = {each["feature_index"]: each["flat_feature_index"] for each in about.get("categorical_features", ())}
    spelt = {each["hash"]: each["value"] for each in about.get("cat_features_hash", ())}

    def split(one: dict[str, Any]) -> _Split:
        if one["split_type"] == "FloatFeature":
            return _Split(numbers[one["float_feature_index"]], border=one["border"])
        if one["split_type"] == "OneHotFeature":
            return _Split(words[one["cat_feature_index"]], word=spelt.get(one["value"] % 2**32, ""))
        return _Split(-1, word="")  # asks a statistic of several words: no row is made up for it

    return [[split(one) for one in tree["splits"] or ()] for tree in told["oblivious_trees"]]


def _row_of_each_leaf(splits: list[_Split], width: int, categorical: Sequence[int]) -> Iterator[Row]:
    """A row for each combination of answers that can be had together."""
    for answers in product((False, True), repeat=len(splits)):
        asked: dict[int, list[tuple[_Split, bool]]] = {}
        for split, answer in zip(splits, answers, strict=True):
            asked.setdefault(split.place, []).append((split, answer))
        chosen = {place: _number(some) if some[0][0].word is None else _word(some) for place, some in asked.items()}
        if None not in chosen.values():
            yield _row(chosen, width, categorical)


def _number(asked: list[tuple[_Split, bool]]) -> float | None:
    """A number above the borders answered yes and not above the others, as CatBoost compares: in single precision."""
    above = max((np.float32(split.border) for split, is_above in asked if is_above), default=None)
    below = min((np.float32(split.border) for split, is_above in asked if not is_above), default=None)
    value = below if above is None else np.nextafter(above, np.float32(np.inf))
    assert value is not None
    return None if below is not None and value > below else float(value)


def _word(asked: list[tuple[_Split, bool]]) -> str | None:
    words = {split.word for split, is_it in asked if is_it}
    if len(words) > 1 or "" in words or any(split.word in words for split, is_it in asked if not is_it):
        return None
    return words.pop() if words else _ANOTHER_WORD


def _row(chosen: dict[int, Any], width: int, categorical: Sequence[int]) -> Row:
    return [chosen.get(place, _ANOTHER_WORD if place in categorical else 0.0) for place in range(width)]


def _pool(rows: list[Row], categorical: Sequence[int]) -> Any:
    from catboost import Pool

    return Pool(rows, cat_features=list(categorical), thread_count=1)


def _shap(trees: Any, pool: Any) -> Floats:
    """CatBoost's SHAP values of the rows, (n, features + 1), and what it says of nobody in particular behind them."""
    pool.set_weight([_NEXT_TO_NOTHING] * pool.num_row())
    found: NDArray[Any] = trees.get_feature_importance(pool, type="ShapValues", thread_count=1)
    return np.asarray(found, dtype=np.float64)
