"""MSH-18 is believed or the message is refused; a replacement character never comes out."""

import pytest

from ehr.hl7v2.charsets import CODECS, CharsetError, decode


def message(charset: str, name: str, codec: str) -> bytes:
    return f"MSH|^~\\&|A|B|C|D|20240101||ADT^A08|1|P|2.5||||||{charset}\rPID|1||7||{name}".encode(codec)


@pytest.mark.parametrize(
    ("charset", "name", "codec"),
    [
        ("", "Jørgen", "utf-8"),
        ("ASCII", "Jorgen", "ascii"),
        ("8859/1", "Jørgen", "latin-1"),
        ("8859/2", "Łukasz", "iso-8859-2"),
        ("8859/15", "œuvre €", "iso-8859-15"),
        ("UNICODE UTF-8", "Łukasz 山田", "utf-8"),
        ("unicode utf-8~8859/1", "Łukasz", "utf-8"),
        ("ISO IR87", "山田", "iso2022_jp"),
        ("GB 18030-2000", "王", "gb18030"),
    ],
)
def test_declared_charsets(charset, name, codec):
    assert decode(message(charset, name, codec), "utf-8").endswith(name)


@pytest.mark.parametrize("codec", sorted(set(CODECS.values())))
def test_every_codec_exists(codec):
    assert "MSH".encode(codec).decode(codec) == "MSH"


@pytest.mark.parametrize(
    ("data", "default"),
    [
        (message("UNICODE UTF-8", "Jørgen", "latin-1"), "utf-8"),
        (message("ASCII", "Jørgen", "utf-8"), "utf-8"),
        (message("", "Jørgen", "latin-1"), "utf-8"),
        (message("KLINGON", "Jorgen", "ascii"), "utf-8"),
        (message("", "Jorgen", "ascii"), "no-such-codec"),
        (message("8859/1", "Jor\0gen", "latin-1"), "utf-8"),
        (message("UNICODE UTF-16", "Jorgen", "ascii"), "utf-8"),
    ],
)
def test_what_does_not_fit_is_refused_without_its_bytes(data, default):
    with pytest.raises(CharsetError) as error:
        decode(data, default)
    assert "rgen" not in str(error.value)
    assert "KLINGON" not in str(error.value)


def test_the_source_says_what_an_undeclared_charset_is():
    assert decode(message("", "Jørgen", "latin-1"), "latin-1").endswith("Jørgen")
