"""What two nights do once the warehouse is published, every log line of every library on standard error.

Both nights were built before; the first is published again for its own work, and then the second.
"""

import json
import logging

from core.overview import overview
from core.publication import published, roll_back
from core.settings import load_settings
from ehr.quarantine import list_quarantine, show_quarantine
from ehr.replay import replay
from ml import registry
from ml.features import materialize
from ml.monitoring import check_drift
from ml.scoring import score
from ml.training import train

if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    settings = load_settings()
    print(replay(settings), *(vars(show_quarantine(settings, row.quarantine_id)) for row in list_quarantine(settings)))
    newest = published(settings).build_id
    roll_back(settings, newest - 1, "test", "the first night's own work")
    print(materialize(settings))
    trained = train(settings, trigger="nightly", actor="test")
    if not trained.promoted:  # a hospital this small convinces no gate
        registry.promote(settings, trained.model_version, actor="test", why="for the sake of what follows")
    print(trained, score(settings), check_drift(settings))
    roll_back(settings, newest, "test", "the second night")
    print(materialize(settings), score(settings), check_drift(settings), registry.list_models(settings))
    print(json.dumps(overview(settings), default=str))
