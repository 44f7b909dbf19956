"""Who may ask what of the inference API, and what no answer may ever hold."""
