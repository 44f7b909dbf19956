"""What the model must beat: a published score that needs no training, and a plain logistic regression."""
