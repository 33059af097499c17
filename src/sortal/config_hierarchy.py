"""The settings of a run about labels that form a tree."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat

from sortal.config_long import SectionsConfig
from sortal.config_sections import DataConfig, Section
from sortal.config_unseen import UnseenLabelsConfig

HIERARCHIES = frozenset(("head", "encoder", "tfidf"))  # methods that can be trained level by level


class LabelTreeConfig(Section):
    """How the labels form a tree."""

    path_separator: str | None = Field(
        None,
        min_length=1,
        description="labels are paths in a tree, and this stands between their names: '/' in A/A01/A01B",
    )
    level_columns: tuple[str, ...] = Field(
        (),
        description="one column per level instead of a label column, the top level first: section,class,subclass; the cells below a row's label are empty",
    )
    parent_map: str | None = Field(
        None,
        description="a CSV with the columns label and parent that says under which label each one lies; empty at the top level",
    )
    level_names: tuple[str, ...] = Field(
        (),
        description="names of the levels, the top one first; default: the level columns, or 1, 2, 3",
    )
    level: str | None = Field(
        None,
        description="cut the tree below this level, by its name or number: deeper labels count as their ancestor there",
    )

    @property
    def has_tree(self) -> bool:
        """Whether anything says that the labels form a tree."""
        return bool(self.path_separator or self.level_columns or self.parent_map)


class HierarchyConfig(Section):
    """Training on a tree of labels."""

    hierarchy: Literal["flat", "levels", "conditional"] = Field(
        "flat",
        description="what a tree of labels is trained as: flat: one choice among all labels, whose ancestors follow; levels: one choice per level, all at once; conditional: one choice among the children of every node on the way down",
    )
    level_weights: tuple[PositiveFloat, ...] = Field(
        (),
        description="hierarchy levels: weight of each level in the loss and in the scores, the top one first; default: all alike",
    )


# Settings that are names or paths, and those that are lists of them.
TREE_TEXTS = frozenset(("path_separator", "parent_map", "level"))
TREE_LISTS = frozenset(("level_columns", "level_names", "level_weights"))
# What changes the loss, and has no meaning yet for a loss over a tree.
_OF_FLAT_LOSS = {
    "loss": "auto",
    "class_weight": "none",
    "pos_weight": "none",
    "label_smoothing": 0.0,
    "negative_smoothing": 0.0,
    "logit_adjustment": 0.0,
}
DATA_FIELDS = frozenset(
    (
        *DataConfig.model_fields,
        *UnseenLabelsConfig.model_fields,
        *LabelTreeConfig.model_fields,
        *SectionsConfig.model_fields,
    )
)  # what decides the rows


def wrong_tree(config: LabelTreeConfig) -> str:
    """What is wrong with the settings of the tree among themselves, or nothing."""
    given = [name for name in ("path_separator", "level_columns", "parent_map") if getattr(config, name)]
    if len(given) > 1:
        return f"{given[0]} cannot be combined with {given[1]}: choose one way to say how labels form a tree"
    for name in ("level", "level_names"):
        if getattr(config, name) and not given:
            return f"{name} needs a tree of labels: give path_separator, level_columns or parent_map"
    if len(config.level_columns) == 1:
        return "level_columns names one column: name at least two, or give it as label"
    if config.level_columns and config.level_names:
        return "level_names has no effect with level_columns, whose names are the levels'"
    if len(set(config.level_names)) < len(config.level_names):
        return "level_names names a level twice"
    return ""


def wrong_hierarchy(config: Any) -> str:
    """What is wrong with how a run is to learn its tree, or nothing; ``config``: all settings of the run."""
    if config.level_weights and config.hierarchy != "levels":
        return "level_weights has no effect without hierarchy 'levels'"
    if config.hierarchy == "flat":
        return ""
    if not config.has_tree:
        return f"hierarchy {config.hierarchy!r} needs a tree of labels: give path_separator, level_columns or parent_map"
    for name, default in _OF_FLAT_LOSS.items():
        if getattr(config, name) != default:
            return f"{name} is for hierarchy 'flat': leave it out"
    return ""
