"""Labels that one part has and another lacks: they cannot be learned, or not be measured."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sortal.checks.base import CheckContext, Finding, NotChecked
from sortal.data.dataset import Indices
from sortal.data.problems import counted, listed

_SHOWN = 5


def check(context: CheckContext) -> Iterator[Finding]:
    """Labels of dev and test that train lacks, and labels of train that test lacks.

    Raises:
        NotChecked: there is only a training file.
    """
    if not context.others:
        raise NotChecked("there is no dev or test file to compare with (--dev, --test)")
    labels = context.labels
    trained = labels.counts("train") > 0
    for part in context.others:
        codes = np.flatnonzero((labels.counts(part) > 0) & ~trained)
        if len(codes):
            names = [labels.names[code] for code in codes]
            rows = np.concatenate([labels.with_label(part, int(code)) for code in codes])

            def note(i: int, part: str = part, rows: Indices = rows) -> str:
                return labels.shown(part, int(rows[i]))

            yield Finding(
                "unseen-labels",
                "error",
                part,
                f"{counted(len(codes), 'label')} of {context.parts[part].source} {'does' if len(codes) == 1 else 'do'} not occur in "
                f"{context.train.source}: {listed(names, _SHOWN)}",
                "add training rows with them, correct the labels, or leave these rows out: training refuses them",
                rows,
                note,
                count=len(codes),
                unit="label",
            )
    last = context.others[-1]
    codes = np.flatnonzero(trained & (labels.counts(last) == 0))
    if len(codes):
        names = [labels.names[code] for code in codes]
        rows = np.array([labels.with_label("train", int(code))[0] for code in codes], np.int64)
        yield Finding(
            "unseen-labels",
            "note",
            "train",
            f"{counted(len(codes), 'label')} {'has' if len(codes) == 1 else 'have'} no row in {context.parts[last].source}: {listed(names, _SHOWN)}",
            "add rows with them there: how well they are recognised is not measured, and they count as 0 in macro-F1",
            rows,
            lambda i: repr(names[i]),
            count=len(codes),
            unit="label",
        )
