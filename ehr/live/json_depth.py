"""How deep JSON goes, found without parsing it."""

import re

# Possessive, and content with the end of the document: a string that is never closed is not looked at twice.
_STRING = re.compile(rb'"(?:[^"\\]++|\\(?:.|\Z))*+(?:"|\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))


def depth_exceeds(document: bytes, limit: int) -> bool:
    """Whether brackets outside strings are nested deeper than ``limit``, valid JSON or not."""
    brackets = _STRING.sub(b"", document).translate(None, _NOT_BRACKETS)
    depth = 0
    for byte in brackets:
        if byte in b"{[":
            depth += 1
            if depth > limit:
                return True
        else:
            depth -= 1
    return False
