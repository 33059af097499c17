"""Train, dev and test rows of a run: from given files, or split from one, the same for every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sortal.config import RunConfig
from sortal.data.dataset import Dataset
from sortal.data.delimiters import GUESSED
from sortal.data.duplicates import overlap
from sortal.data.files import part_files
from sortal.data.groups import dependent_rows, group_column, shared_groups
from sortal.data.labels import LabelSpace
from sortal.data.reading import read
from sortal.data.records import only_warnings
from sortal.data.splitfile import save_split
from sortal.data.splits import split, subsample
from sortal.errors import DataError
from sortal.evaluation.frequency import LabelFrequencies
from sortal.hierarchy.spaces import columns_to_level, in_space, tree_space
from sortal.hierarchy.unseen import LeftOut, leave_out
from sortal.methods.frequencies import label_counts
from sortal.training.runfolder import SPLIT_NAME

Say = Callable[[str], None]
_OTHERS: tuple[str, ...] = ("dev", "test")


@dataclass(frozen=True)
class Parts:
    """The rows of a run and the label space of its training file; ``test`` may be empty.

    whole, cut: the file that was split and the positions of its parts, None where dev and test were given.
    left_out: what dev and test rows lost with labels that no training row has, by part; a part that lost nothing is not there.
    """

    train: Dataset
    dev: Dataset
    test: Dataset
    label_space: LabelSpace
    whole: Dataset
    cut: dict[str, np.ndarray[Any, Any]] | None
    settings: dict[str, Any]
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of texts and labels, per part."""
        return {"train": self.train.fingerprint, "dev": self.dev.fingerprint, "test": self.test.fingerprint}

    def frequencies(self) -> LabelFrequencies:
        """Training rows, and those of each label."""
        gold = self.label_space.encode_sparse(self.train)
        return LabelFrequencies(len(self.train), label_counts(gold, len(self.label_space)))

    def summary(self) -> dict[str, Any]:
        """Sources, sizes and what was left out for run.json."""
        parts = {"train": self.train, "dev": self.dev, "test": self.test}
        summary: dict[str, Any] = {
            name: {"source": part.source, "rows": len(part), "fingerprint": part.fingerprint}
            for name, part in parts.items()
        }
        for name, found in self.left_out.items():
            summary[name]["left_out"] = found.to_json()
        return summary

    def write(self, folder: Path) -> None:
        """Keep the split beside the run, so that others can use the same."""
        if self.cut is not None:
            save_split(folder / SPLIT_NAME, self.whole, self.cut, self.settings)


def read_parts(config: RunConfig, say: Say, data: Mapping[str, Dataset] | None = None) -> Parts:
    """Read what ``config`` names; what it does not name is split off the training file.

    Args:
        data: rows in memory, ``train`` and where they are given ``dev`` and ``test``, instead of the files of ``config``.

    Raises:
        DataError: unreadable data, labels that occur only in dev or test unless the settings drop them, or too few rows to split.
    """
    dropped = config.unseen_labels == "drop"
    left_out: dict[str, LeftOut] = {}
    if data is None:
        files = part_files(config.data, config.dev, config.test)
        whole = _read_train(config, files["train"], say)
        space = tree_space(config, whole)
        given = {name: _read_like(whole, files[name], space, say) for name in _OTHERS if name in files}
    else:
        whole = data["train"]
        space = tree_space(config, whole)
        given = {name: data[name] for name in _OTHERS if name in data}
    whole = in_space(whole, space)
    given = {name: in_space(part, space) for name, part in given.items()}
    for name, part in given.items():
        if len(part) == 0:
            raise DataError(f"{part.source} has no rows", "give a file with labelled rows")
        if dropped:
            given[name], found, sentence = leave_out(part, space)
            if found is not None:
                left_out[name] = found
                say(sentence)
        space.check(given[name])
    seed = config.seed if config.split_seed is None else config.split_seed
    settings: dict[str, Any] = {
        "dev_size": 0.0 if "dev" in given else config.dev_size,
        "test_size": 0.0 if "test" in given else config.test_size,
        "seed": seed,
    }
    cut = None
    parts: dict[str, Dataset] = {"test": whole.take([]), "train": whole, **given}
    if settings["dev_size"] or settings["test_size"]:
        cut = split(whole, **settings, say=say)
        parts |= {name: whole.take(rows) for name, rows in cut.items()}
    train = parts["train"]
    if config.max_train_rows is not None and config.max_train_rows < len(train):
        say(f"training on a random sample of {config.max_train_rows:,} of {len(train):,} rows (seed {seed})")
        train = subsample(train, config.max_train_rows, seed)
    for part in given.values():
        for warning in (overlap(train, part).warning, shared_groups(train, part)):
            if warning:
                say(warning)
    if sentence := dependent_rows(parts["test"]):
        say(sentence)
    if space.tree is not None:
        sizes = (
            f"{name}: {len(space.tree.at_level(k)):,}" for k, name in enumerate(space.tree.levels, start=1)
        )
        say(f"the labels form a tree of {len(space.tree):,} nodes; per level {', '.join(sizes)}")
    say(
        f"{space.task}-label task, {len(space)} labels; train {len(train):,}, dev {len(parts['dev']):,}, test {len(parts['test']):,} rows"
    )
    return Parts(train, parts["dev"], parts["test"], space, whole, cut, settings, left_out)


def _read_train(config: RunConfig, source: str, say: Say) -> Dataset:
    return read(
        source,
        text=config.text,
        text_template=config.text_template,
        label=config.label,
        label_columns=config.label_columns,
        label_delimiter=_delimiter(config),
        level_columns=columns_to_level(config),
        id=config.id,
        group=config.group,
        task=config.task,
        say=say,
    )


def _delimiter(config: RunConfig) -> str | None:
    """What separates several labels; ``""`` (nothing) where guessing would take the separator of paths for it."""
    given = config.label_delimiter
    return "" if given is None and config.path_separator in GUESSED else given


def _read_like(train: Dataset, source: str, space: LabelSpace, say: Say) -> Dataset:
    """Another file with the columns of the training file."""
    arguments = train.schema.arguments() | {"task": space.task, "say": only_warnings(say)}
    return read(source, **arguments, group=group_column(train.schema, source))
