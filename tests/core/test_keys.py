"""Pseudonyms are the same in Python and in SQL; sealed bytes cannot be read, moved or changed."""

import duckdb
import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from core.keys import generate_secrets, install_pseudonym_macro, pseudonym, seal, unseal

KEY = bytes(range(32))
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(kind=texts, namespace=texts, value=texts)
def test_pseudonym_is_the_same_in_sql(kind, namespace, value):
    with duckdb.connect() as connection:
        install_pseudonym_macro(connection, KEY)
        row = connection.execute("select pseudonym($1, $2, $3)", [kind, namespace, value]).fetchone()
    assert row == (pseudonym(KEY, kind, namespace, value),)


def test_pseudonym_depends_on_secret_kind_namespace_and_value():
    seen = {
        pseudonym(KEY, "a", "b", "c"),
        pseudonym(KEY[::-1], "a", "b", "c"),
        pseudonym(KEY, "x", "b", "c"),
        pseudonym(KEY, "a", "x", "c"),
        pseudonym(KEY, "a", "b", "x"),
    }
    assert len(seen) == 5


@given(plain=st.binary(), context=st.text())
def test_sealed_bytes_come_back_only_in_their_own_context(plain, context):
    sealed = seal(KEY, plain, context)
    assert unseal(KEY, sealed, context) == plain
    with pytest.raises(InvalidTag):
        unseal(KEY, sealed, context + "x")


def test_secrets_are_generated_once_with_mode_600(tmp_path):
    env = tmp_path / ".env"
    env.write_text("CUFF_AIRFLOW_PORT=9090")
    assert len(generate_secrets(env)) == 3
    before = env.read_text()
    assert generate_secrets(env) == []
    assert env.read_text() == before
    assert before.startswith("CUFF_AIRFLOW_PORT=9090\n")
    assert env.stat().st_mode & 0o777 == 0o600
