"""Several processes and one chain: also when one of them is killed in the middle of its work."""

from tests.ml.serving.journal_writers import check_nothing_is_lost, kill_one_of_two_writers


def test_a_killed_writer_leaves_an_unbroken_chain_and_every_answer_has_its_rows(settings, tmp_path):
    left = kill_one_of_two_writers(settings, tmp_path)
    check_nothing_is_lost(left)
    assert left.report.rows > 200
