"""What groups of rows, such as those of one author or customer, say about the parts of a run."""

from __future__ import annotations

from pathlib import Path

from sortal.data.dataset import Dataset
from sortal.data.files import open_source
from sortal.data.problems import counted, listed
from sortal.data.schema import Schema


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


def group_column(schema: Schema, source: str | Path) -> str | None:
    """The column that named the groups of the training rows, where ``source`` has it, too."""
    if schema.group is None or schema.group not in open_source(source, lambda line: None).all_columns():
        return None
    return schema.group


def dependent_rows(test: Dataset) -> str:
    """What groups of test rows mean for the figures; "" where every row has a group of its own."""
    known = [group for group in test.groups or () if group is not None]
    groups = len(set(known))
    if groups == len(known):
        return ""
    return (
        f"{len(known):,} test rows are of {counted(groups, 'group')} ({test.schema.group}), whose rows may be alike: "
        "intervals and tests draw groups, not rows"
    )
