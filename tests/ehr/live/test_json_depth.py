"""Depth of JSON, told without parsing it, in time that grows with the bytes alone."""

import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.live.json_depth import depth_exceeds

_TEXT = st.text(alphabet='[]{}"\\a', max_size=6)
_JSON = st.recursive(_TEXT | st.integers(0, 9),
                     lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3))


def _depth(document: object) -> int:
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


@given(_JSON)
def test_it_is_the_depth_of_the_document(document):
    written, depth = orjson.dumps(document), _depth(document)
    assert not depth_exceeds(written, depth)
    assert depth == 0 or depth_exceeds(written, depth - 1)


@given(st.binary(max_size=40), st.integers(0, 4))
def test_any_bytes_have_an_answer(document, limit):
    assert depth_exceeds(document, limit) in (True, False)


@pytest.mark.parametrize("document", [b'"' + b'\\"' * 500_000, b'"' + b'\\"' * 500_000 + b"\\", b'"' * 500_001, b"[" * 500_000])
def test_an_unclosed_string_costs_one_look(document):
    started = time.process_time()
    depth_exceeds(document, 64)
    assert time.process_time() - started < 2
