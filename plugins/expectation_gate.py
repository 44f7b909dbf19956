"""A gate as a task: what must hold at a boundary, or the DAG stops there."""

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowFailException


@task
def expectation_gate(suite: str, build_id: int) -> int:
    """Run one suite of `expectations` and return how many expectations it evaluated.

    A gate that does not hold fails at once, without retries: the same data would fail again.
    """
    from core.errors import GateError
    from core.settings import load_settings
    from expectations.gates import require, run_gate

    settings, frame = load_settings(), None
    if suite == "training_set":  # judged as the training will read it
        from core.publication import published
        from ml.features.training_set import training_set

        frame = training_set(settings, published(settings))
    try:
        return require(run_gate(settings, suite, build_id, frame)).evaluated
    except GateError as error:
        raise AirflowFailException(str(error)) from None
