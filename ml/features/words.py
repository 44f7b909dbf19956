"""The words that a category may say. What a record says nothing about is None, not a word."""

WORDS: dict[str, tuple[str, ...]] = {
    "sex": ("female", "male", "other", "unknown"),  # FHIR's AdministrativeGender
    "smoking_status": ("current", "former", "never", "unknown"),
}
