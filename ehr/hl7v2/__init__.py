"""HL7 v2: bytes to messages, messages to landing rows. Pure: the same bytes give the same rows."""
