"""Hospital bytes in, pseudonymised tables out."""
