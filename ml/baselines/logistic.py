"""Logistic regression on the same features: medians for what is missing, standardised, lightly regularised."""

from typing import TYPE_CHECKING, Any

from ml.features.catalog import CATEGORICAL, FEATURE_NAMES

if TYPE_CHECKING:
    import pandas as pd


def fit_logistic(rows: "pd.DataFrame") -> Any:
    """A fitted scikit-learn pipeline with ``predict_proba``. ``rows`` hold the features, ``label`` and ``weight``."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = [name for name in FEATURE_NAMES if name not in CATEGORICAL]
    columns = ColumnTransformer([
        ("numbers", make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()), numbers),
        ("categories", make_pipeline(SimpleImputer(strategy="constant", fill_value="missing"),
                                     OneHotEncoder(handle_unknown="ignore")), list(CATEGORICAL)),
    ])
    pipeline = make_pipeline(columns, LogisticRegression(max_iter=1000))
    return pipeline.fit(rows[list(FEATURE_NAMES)], rows["label"], logisticregression__sample_weight=rows["weight"])
