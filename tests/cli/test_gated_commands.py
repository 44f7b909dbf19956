"""`cuff train` stands behind the gate that its DAG stands behind: examples that do not hold teach nobody."""

from pathlib import Path

import pytest

from ml.registry import list_models
from tests.cli.test_command_line import cuff
from tests.conftest import make_settings
from tests.ml.hospital import draw, publish_hospital


@pytest.mark.slow
def test_examples_without_a_believable_label_rate_train_no_model(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "var")
    drawn = draw(400, seed=3)
    drawn.examples["label"] = (drawn.examples.index % 3 > 0).astype(int)
    publish_hospital(settings, drawn)
    done = cuff(settings.var, "train", "--json", CUFF_TRAINING_SEARCH_SECONDS="0", CUFF_BOOTSTRAP_SAMPLES="20")
    assert (done.returncode, done.stdout, done.stderr.count("error: ")) == (7, "", 1)
    assert "gate 'training_set' does not hold: label_rate_is_believable" in done.stderr
    assert list_models(settings) == []
