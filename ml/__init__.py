"""Tables in; features, models, predictions and verdicts out."""
