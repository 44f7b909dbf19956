"""Several processes and one chain: also when one of them is killed in the middle of its work."""

from tests.ml.serving.journal_writers import kill_one_of_two_writers


def test_a_killed_writer_leaves_an_unbroken_chain_and_every_answer_has_its_rows(settings, tmp_path):
    kill_one_of_two_writers(settings, tmp_path)
