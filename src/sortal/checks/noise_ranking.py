"""`--ranking`: every training row in the order in which a person should read labels, for as long as wrong ones turn up."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sortal.checks.base import CheckContext
from sortal.errors import ConfigError
from sortal.training.atomic import atomic_file

_COLUMNS = ("row", "id", "score", "label", "probability", "other_label", "other_probability", "flagged")


def refuse_ranking(out: Path, files: Mapping[str, str]) -> None:
    """Refuse a place for the ranking before anything is read.

    Raises:
        ConfigError: not a .csv, a folder, a folder that is missing, or one of ``files``, which are read or written.
    """
    if out.suffix.lower() != ".csv" or out.is_dir():
        raise ConfigError(f"--ranking {out} is not the name of a CSV file", "write --ranking FILE.csv")
    if not out.absolute().parent.is_dir():
        raise ConfigError(
            f"--ranking {out}: the folder {out.absolute().parent} does not exist",
            "make it, or choose another",
        )
    for source in files.values():
        if out.resolve() == Path(source).resolve():
            raise ConfigError(f"--ranking {out} would overwrite {source}", "choose another name")


def write_ranking(out: Path, context: CheckContext) -> None:
    """Write the CSV.

    Raises:
        NotChecked: labels of this data cannot be judged. ResourceError: the file cannot be written.
    """
    found, labels, train = context.suspects, context.labels, context.train
    given = labels.rows["train"].indices
    flagged = np.zeros(len(train), bool)
    flagged[found.rows] = True
    ids = train.ids
    with atomic_file(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in np.argsort(-found.score, kind="stable").tolist():
            own = labels.names[given[row]], f"{found.own[row]:.4f}"
            other = labels.names[found.other[row]], f"{found.instead[row]:.4f}"
            writer.writerow(
                (int(train.rows[row]), ids[row], f"{found.score[row]:.4f}", *own, *other, int(flagged[row]))
            )
