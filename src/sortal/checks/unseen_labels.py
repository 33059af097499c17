"""Labels that one part has and another lacks: they cannot be learned, or not be measured."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sortal.checks.base import CheckContext, Finding, NotChecked
from sortal.checks.labelcodes import LabelCodes
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
            yield _unknown(context, part, codes)
    measured = context.others[-1]  # test, or dev when there is no other
    codes = np.flatnonzero(trained & (labels.counts(measured) == 0))
    if len(codes):
        yield _unmeasured(context, measured, codes)


def _unknown(context: CheckContext, part: str, codes: Indices) -> Finding:
    labels, source = context.labels, context.name(part)
    rows, of = labels.examples(part, codes, len(context.parts[part]))
    verb = "does" if len(codes) == 1 else "do"
    return Finding(
        "unseen-labels",
        "error",
        part,
        f"{counted(len(codes), 'label')} of {source} {verb} not occur in {context.name('train')}: {_named(labels, codes)}",
        "add training rows with them or correct the labels: training refuses them, or takes them out with --unseen-labels drop",
        rows,
        lambda i: repr(labels.names[of[i]]),
        count=len(codes),
        unit="label",
    )


def _unmeasured(context: CheckContext, part: str, codes: Indices) -> Finding:
    labels = context.labels
    rows, of = labels.examples("train", codes)
    verb = "has" if len(codes) == 1 else "have"
    return Finding(
        "unseen-labels",
        "note",
        "train",
        f"{counted(len(codes), 'label')} {verb} no row in {context.name(part)}: {_named(labels, codes)}",
        "add rows with them there: how well they are recognised is not measured, and they count as 0 in macro-F1",
        rows,
        lambda i: repr(labels.names[of[i]]),
        count=len(codes),
        unit="label",
    )


def _named(labels: LabelCodes, codes: Indices) -> str:
    return listed([labels.names[code] for code in codes], _SHOWN)
