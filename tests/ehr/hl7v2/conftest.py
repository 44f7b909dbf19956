"""`parse` for every test of this folder."""

import pytest

from tests.ehr.hl7v2.parsing_of_bytes import Parse, parse_bytes


@pytest.fixture
def parse() -> Parse:
    return parse_bytes
