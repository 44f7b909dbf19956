"""The named errors of Cuff.

Each message says what is wrong, with what, and the mend, in one line and without a patient's values. Errors map once
to exit codes (here) and to HTTP statuses (in serving).
"""


class CuffError(Exception):
    """Base of every error a person may meet. ``exit_code`` is what the command line exits with."""

    exit_code = 1


class ConfigurationError(CuffError):
    """A setting is missing or contradicts another."""

    exit_code = 2


class InputError(CuffError):
    """What was handed in cannot be used at all: a path that is absent, a folder without a readable file."""

    exit_code = 3


class LakeBusyError(CuffError):
    """Another process holds the lake's writer lock."""

    exit_code = 4


class NotPublishedError(CuffError):
    """Nothing has been published yet, so there is no tested snapshot to read."""

    exit_code = 5


class BuildError(CuffError):
    """dbt failed to build or test the warehouse; nothing was published."""

    exit_code = 6


class GateError(CuffError):
    """What must hold at a boundary does not hold; the step behind the gate did not run."""

    exit_code = 7


class ModelError(CuffError):
    """A model is absent, fails its digest, or may not take the place asked for."""

    exit_code = 8


class ArchiveError(CuffError):
    """An archived payload is missing or does not match its digest."""

    exit_code = 9


class FeatureStoreError(CuffError):
    """The online feature store is absent or does not answer."""

    exit_code = 10
