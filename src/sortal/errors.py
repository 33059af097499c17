"""Every error a user can cause, each saying what is wrong, where, and what to do.

The command line prints ``str(error)`` and exits with ``error.exit_code``; it never prints a traceback for these.
Exit codes: 2 bad input or configuration, 3 the machine cannot do it (memory, disk, network, a locked folder),
130 / 143 stopped by SIGINT / SIGTERM after a checkpoint. Anything else is a defect of Sortal and exits with 1.
"""

from __future__ import annotations


class SortalError(Exception):
    """Base of all user-facing errors.

    Args:
        what: the problem in one clause, with the file, row and column where they are known.
        fix: what the user can do about it.
    """

    exit_code = 2

    def __init__(self, what: str, fix: str = "") -> None:
        self.what = what
        self.fix = fix
        super().__init__(f"{what}\n→ {fix}" if fix else what)


class DataError(SortalError):
    """A data file, row or label that cannot be used."""


class ConfigError(SortalError):
    """A flag, YAML key or combination of settings that cannot work."""


class InputError(SortalError, ValueError):
    """An argument of the scikit-learn estimator that cannot be used; a ValueError too, as scikit-learn's callers expect."""


class ModelError(SortalError):
    """A model spec, base model or saved model folder that cannot be used."""


class RunFolderError(SortalError):
    """An output folder that is locked, finished, unwritable or holds another run."""


class CheckpointError(SortalError):
    """A checkpoint that is damaged, missing or belongs to different data or settings."""


class ResourceError(SortalError):
    """Memory, disk, network or device that is not there."""

    exit_code = 3


class LockedError(RunFolderError):
    """Another live process is writing to the same folder."""

    exit_code = 3


class MissingDependencyError(SortalError):
    """An optional package that the asked-for feature needs."""

    exit_code = 3


class TrainingDivergedError(SortalError):
    """Loss or gradients became NaN or infinite and the policy says to stop; ``figures`` goes into run.json."""

    exit_code = 3

    def __init__(self, what: str, fix: str = "", figures: dict[str, int] | None = None) -> None:
        super().__init__(what, fix)
        self.figures = figures or {}


class Interrupted(SortalError):  # noqa: N818 - a stop asked for by the user, not a failure
    """SIGINT or SIGTERM arrived; a complete checkpoint was written before this was raised."""

    def __init__(self, what: str, fix: str, signal_number: int) -> None:
        super().__init__(what, fix)
        self.exit_code = 128 + signal_number
