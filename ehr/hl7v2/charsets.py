"""MSH-18 to text (HL7 table 0211). Bytes that are not what MSH-18 says are refused, never replaced."""

CODECS = {
    "": None,
    "ASCII": "ascii",
    "8859/1": "iso-8859-1",
    "8859/2": "iso-8859-2",
    "8859/5": "iso-8859-5",
    "8859/7": "iso-8859-7",
    "8859/9": "iso-8859-9",
    "8859/15": "iso-8859-15",
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "UNICODE UTF-16": "utf-16",
    "ISO IR87": "iso2022_jp",
    "GB 18030-2000": "gb18030",
}


class CharsetError(ValueError):
    """The bytes do not decode as declared, or the declaration is unknown."""


def decode(message: bytes, default_charset: str) -> str:
    """The message as text. Errors: `CharsetError`."""
    declared = _declared(message)
    if declared not in CODECS:
        raise CharsetError("MSH-18 names a character set that is not known")
    codec = CODECS[declared] or default_charset
    try:
        text = message.decode(codec)
    except UnicodeDecodeError:
        raise CharsetError(f"the bytes are not {declared or default_charset}") from None
    if "\x00" in text:
        raise CharsetError("the bytes hold a NUL")
    return text


def _declared(message: bytes) -> str:
    """MSH-18, first repetition, read before decoding: its separators are ASCII."""
    head = message.split(b"\r", 1)[0]
    separator = head[3:4]
    fields = head.split(separator) if separator else []
    if len(fields) <= 17:
        return ""
    repetition = fields[4 - 3][1:2] if len(fields[1]) > 1 else b"~"
    return fields[17].split(repetition)[0].strip().decode("ascii", "ignore").upper()
