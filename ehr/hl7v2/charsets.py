"""MSH-18 to text (HL7 table 0211). Bytes that are not what MSH-18 says are refused, never replaced."""

_TABLE_0211 = {
    "ASCII": "ascii",
    "ISO IR6": "ascii",
    **{f"8859/{part}": f"iso-8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "ISO IR14": "iso2022_jp",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
}
# Not in the table, and sent all the same.
_SEEN_IN_THE_WILD = {
    "US-ASCII": "ascii",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "UNICODE UTF8": "utf-8",
    **{f"ISO-8859-{part}": f"iso-8859-{part}" for part in (1, 2, 5, 7, 9, 15)},
    **{f"ISO8859-{part}": f"iso-8859-{part}" for part in (1, 2, 5, 7, 9, 15)},
    "WINDOWS-1252": "cp1252",
    "CP1252": "cp1252",
}
CODECS = _TABLE_0211 | _SEEN_IN_THE_WILD  # UTF-16 and UTF-32 are absent: their bytes cannot be framed by CR


class CharsetError(ValueError):
    """The bytes do not decode as declared, or the declaration is unknown."""


def decode(message: bytes, default_charset: str) -> str:
    """The message as text. Errors: `CharsetError`."""
    declared = _declared(message)
    if declared and declared not in CODECS:
        raise CharsetError("MSH-18 names a character set that is not known")
    try:
        text = message.decode(CODECS[declared] if declared else default_charset)
    except UnicodeDecodeError:
        raise CharsetError(f"the bytes are not {declared or default_charset}") from None
    except LookupError:
        raise CharsetError("the source's default_charset is not known") from None
    if "\x00" in text:
        raise CharsetError("the bytes hold a NUL")
    return text


def _declared(message: bytes) -> str:
    """MSH-18, first repetition, read before decoding: its separators are ASCII. '' when it is absent."""
    head = message.split(b"\r", 1)[0]
    separator = head[3:4]
    fields = head.split(separator) if separator else []
    if len(fields) <= 17:
        return ""
    repetition = fields[1][1:2] or b"~"
    return fields[17].split(repetition)[0].strip().decode("latin-1").upper()
