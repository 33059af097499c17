"""The caller's own labels beside the strings that a model folder keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sortal.data.canonical import canonical_names
from sortal.data.dataset import Labels
from sortal.data.labels import LabelSpace
from sortal.data.problems import listed
from sortal.data.schema import Task
from sortal.errors import InputError
from sortal.estimator.answers import Answers, Form

_DESCRIBED = {
    "single": "one label per row",
    "indicator": "a column per label",
    "lists": "several labels per row",
}


@dataclass(frozen=True, eq=False)
class Targets:
    """What ``fit`` learns about y.

    Attributes:
        form: how y was given, and how predictions are.
        classes: labels ``[L]`` in the caller's own type and in the order of every score column.
        dtype: of an indicator matrix.
        named: whether its columns had names.
    """

    form: Form
    classes: npt.NDArray[Any]
    dtype: npt.DTypeLike
    named: bool = False

    @classmethod
    def learn(cls, answers: Answers) -> Targets:
        """The targets of a y to train on.

        Raises:
            InputError: one class only, an empty label, or different labels that are the same as text.
        """
        targets = cls(answers.form, answers.classes, answers.dtype, answers.named)
        if answers.form == "single" and len(targets.names) < 2:
            raise InputError(
                f"y has 1 class, {targets.names[0]!r}; a classifier needs at least two",
                "add rows of another class",
            )
        if "" in targets.names:
            raise InputError("y holds an empty label", "name it, or give [] for a text without labels")
        if twice := sorted({name for name in targets.names if targets.names.count(name) > 1}):
            raise InputError(f"different labels of y are the same as text: {listed(twice)}", "rename them")
        return targets

    @property
    def task(self) -> Task:
        """One label per row, or any number."""
        return "single" if self.form == "single" else "multi"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The labels as strings ``[L]``; numbers and truth values as they would be read from a file."""
        return tuple(names_of(self.classes.tolist()))

    def in_tree(self, space: LabelSpace) -> Targets:
        """The targets of a y whose labels form a tree: with the labels that ``space`` has, as strings where they are others.

        Raises:
            InputError: a column of an indicator matrix stands for another label.
        """
        if space.names == self.names:
            return self
        if self.form == "indicator":
            stray = sorted(set(self.names) ^ set(space.names))
            raise InputError(
                f"the columns of y and the nodes of the tree of labels differ by {listed(stray, 5)}",
                "give one column per node under its full name, and no level; or a list of labels per row",
            )
        return replace(self, classes=np.array(space.names, object))

    def labels(self, answers: Answers) -> list[Labels]:
        """The label strings of every row; a label that ``fit`` never saw is a string that is not among ``names``.

        Raises:
            InputError: one label per row where there were several at fit, or the reverse; or other columns.
        """
        if (answers.form == "single") != (self.form == "single"):
            raise InputError(
                f"y has {_DESCRIBED[answers.form]}, and the y of fit had {_DESCRIBED[self.form]}",
                "give both in the same form",
            )
        if answers.form == "indicator":
            if len(answers.classes) != len(self.classes):
                raise InputError(
                    f"y has {len(answers.classes)} columns, and there are {len(self.classes)} labels",
                    "give one column per label, in the order of classes_",
                )
            if self.named and answers.named and answers.classes.tolist() != self.classes.tolist():
                raise InputError(
                    f"the columns of y are {listed(answers.classes.tolist(), 5)}, and those of fit were {listed(self.classes.tolist(), 5)}",
                    "give the columns of fit in their order, y[classes_]",
                )
            return [tuple(self.names[column] for column in row) for row in answers.rows]
        found = answers.classes.tolist()
        name_of = dict(zip(found, names_of(found), strict=True))
        return [tuple(name_of[label] for label in row) for row in answers.rows]

    def decode(self, predicted: Sequence[Any]) -> Any:
        """Predictions in the form of y: an array ``[n]``, a 0/1 matrix ``[n, L]``, or a list of tuples.

        Args:
            predicted: a name per row, None where there is no answer; with several labels a tuple of names.
        """
        index = {name: column for column, name in enumerate(self.names)}
        if self.form == "single":
            found = self.classes[np.array([index.get(name, 0) for name in predicted], np.int64)]
            if None in predicted:
                found = found.astype(object)
                found[[name is None for name in predicted]] = None
            return found
        if self.form == "lists":
            classes = self.classes.tolist()
            return [tuple(classes[index[name]] for name in row) for row in predicted]
        matrix = np.zeros((len(predicted), len(self.classes)), self.dtype)
        for number, row in enumerate(predicted):
            matrix[number, [index[name] for name in row]] = 1
        return matrix


def names_of(labels: Sequence[Any]) -> list[str]:
    """Labels in the caller's own type as the strings that a model folder keeps."""
    found = canonical_names({(type(label), label): 1 for label in labels}, "y", lambda line: None, keep=True)
    return [found[type(label), label] for label in labels]
