"""What groups of rows, such as those of one author or customer, say about the parts of a run."""

from __future__ import annotations

from sortal.data.dataset import Dataset
from sortal.data.problems import counted, listed


def shared_groups(train: Dataset, other: Dataset) -> str:
    """A warning about rows of ``other`` whose group has rows in ``train``, too; "" where there are none or groups are not known."""
    seen = {group for group in train.groups or () if group is not None}
    shared = [group for group in other.groups or () if group in seen]
    if not shared:
        return ""
    named = listed(list(dict.fromkeys(shared)), 3)
    return (
        f"warning: {counted(len(shared), 'row')} of {other.source} ({len(shared) / len(other):.1%}) {'is' if len(shared) == 1 else 'are'} of groups "
        f"that {train.source} has rows of, too ({train.schema.group}: {named}); scores on them may be too good."
    )


def dependent_rows(test: Dataset) -> str:
    """A warning that rows of one group are no independent rows; "" where every row has a group of its own."""
    known = [group for group in test.groups or () if group is not None]
    groups = len(set(known))
    if groups == len(known):
        return ""
    return (
        f"warning: {len(known):,} test rows are of {counted(groups, 'group')} ({test.schema.group}): intervals and tests take rows for independent, "
        "and claim too much where rows of a group are alike."
    )
