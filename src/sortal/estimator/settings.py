"""The estimator's parameters as the settings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.utils import check_random_state

from sortal.config import RunConfig, build_config
from sortal.config_hierarchy import DATA_FIELDS
from sortal.errors import InputError
from sortal.estimator.targets import Targets, names_of

# Parameters that are settings of the same name; None is the method's own default.
SAME = (
    "method",
    "preset",
    "model",
    "epochs",
    "learning_rate",
    "batch_size",
    "max_length",
    "lora_r",
    "blend",
    "thresholds",
    "threshold_metric",
    "abstain_below",
)
POLICIES = ("return_none", "ignore", "warn", "raise")
_OTHERWISE = {"seed": "random_state", "dev_size": "validation_fraction"}
# Settings of the data that mean something for rows in memory.
_OF_ROWS = frozenset(
    (
        "text_template",
        "sections",
        "split_seed",
        "max_train_rows",
        "path_separator",
        "parent_map",
        "level_names",
        "level",
        "unseen_labels",
    )
)
_OF_FILES = (DATA_FIELDS | {"out"}) - _OF_ROWS - frozenset(_OTHERWISE)


def run_config(parameters: Mapping[str, Any], targets: Targets, *, split: bool, out: str) -> RunConfig:
    """The settings of the run that ``fit`` makes.

    Args:
        parameters: of the estimator.
        targets: of y.
        split: whether dev rows are split off X.
        out: the run folder.

    Raises:
        InputError: a setting that is given twice, or belongs elsewhere. ConfigError: an unknown or impossible one.
    """
    more = dict(parameters["settings"] or {})
    given = {name: parameters[name] for name in SAME if parameters[name] is not None}
    if parameters["class_weight"] is not None:
        given["class_weight"] = _class_weight(parameters["class_weight"])
    for name in more:
        if name in given:
            raise InputError(f"{name!r} is a parameter and in settings", "give it once")
        if name in _OTHERWISE:
            raise InputError(f"settings: {name!r} has a parameter of its own", f"give {_OTHERWISE[name]}")
        if name in _OF_FILES:
            raise InputError(
                f"settings: {name!r} is about files, and fit takes rows", "leave it out, or use sortal.train"
            )
    fraction = parameters["validation_fraction"]
    if split:
        if not isinstance(fraction, int | float) or not 0 < fraction < 0.9:
            raise InputError(
                f"validation_fraction is {fraction!r}", "give a share between 0 and 0.9, or dev rows to fit"
            )
        given["dev_size"] = fraction
    if parameters["on_abstain"] not in POLICIES:
        raise InputError(
            f"on_abstain is {parameters['on_abstain']!r}", f"use {', '.join(map(repr, POLICIES))}"
        )
    fixed = {"task": targets.task, "test_size": 0.0, "seed": _seed(parameters["random_state"]), "out": out}
    return build_config({**more, **given, **fixed}, "SortalClassifier")


def _class_weight(weights: Any) -> Any:
    if not isinstance(weights, Mapping):
        return weights
    return dict(zip(names_of(list(weights)), weights.values(), strict=True))


def _seed(random_state: Any) -> int:
    """A seed as it is; or one drawn from a generator, or for None from NumPy's global one, as scikit-learn does."""
    if random_state is None or hasattr(random_state, "randint"):
        return int(check_random_state(random_state).randint(2**31 - 1))
    return random_state  # type: ignore[no-any-return]
