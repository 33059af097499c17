"""One label under several names: upper and lower case, separators, slips of the pen."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from sortal.checks.base import CheckContext, Finding
from sortal.checks.remedies import Relabel
from sortal.data.canonical import look
from sortal.data.dataset import Indices
from sortal.data.problems import counted, listed

_SEPARATORS = re.compile(r"(?<=\w)[\s_-]+(?=\w)")  # "-1" is not "1"
# A slip is rare beside the name that was meant.
_RARE = 0.1
_LEAST_LETTERS = 5


def check(context: CheckContext) -> Iterator[Finding]:
    """Names of all parts together; rows of the part that has most rows under the rarer name."""
    names = context.labels.names
    counts = np.sum([context.labels.counts(part) for part in context.parts], axis=0)
    # Train decides, so that removing rows from it cannot turn a repair round; the other parts, where it knows neither.
    merged = twins(names, context.labels.counts("train") * (1 + counts.sum()) + counts)
    if merged:
        differ = "differs" if len(merged) == 1 else "differ"
        yield _finding(context, merged, f"{differ} only in case or separators", twin=True)
    left = [name for name in names if name not in merged]
    slips = typos(left, counts[[context.labels.index[name] for name in left]])
    if slips:
        look = "looks like a slip of the pen" if len(slips) == 1 else "look like slips of the pen"
        yield _finding(context, slips, look, twin=False)


def twins(names: Sequence[str], counts: npt.NDArray[np.int64]) -> dict[str, str]:
    """Name → the most frequent name that differs from it only in case, Unicode form, invisible characters, white space or separators."""
    groups: dict[str, list[int]] = defaultdict(list)
    for position, name in enumerate(names):
        groups[_plain(name)].append(position)
    found: dict[str, str] = {}
    for plain, members in groups.items():
        if len(members) > 1 and plain:
            best = max(members, key=lambda position: int(counts[position]))
            found |= {names[position]: names[best] for position in members if position != best}
    return found


def typos(names: Sequence[str], counts: npt.NDArray[np.int64]) -> dict[str, str]:
    """Rare name → a much more frequent one that is one edit away (two from ten letters on).

    An edit inserts, drops, changes or swaps letters. Names with digits are codes, and short names differ by little anyway:
    both are left alone.
    """
    usable = [
        position
        for position, name in enumerate(names)
        if sum(map(str.isalpha, name)) >= _LEAST_LETTERS and not any(map(str.isdigit, name))
    ]
    by_deletion: dict[str, list[int]] = defaultdict(list)
    for position in usable:
        for form in _deletions(_plain(names[position])):
            by_deletion[form].append(position)
    found: dict[str, tuple[int, str]] = {}
    for members in by_deletion.values():
        frequent = max(members, key=lambda position: int(counts[position]))
        for position in members:
            if counts[position] > _RARE * counts[frequent]:
                continue
            allowed = 2 if len(names[position]) >= 10 else 1
            distance = edits(_plain(names[position]), _plain(names[frequent]))
            if distance <= allowed and distance < found.get(names[position], (allowed + 1, ""))[0]:
                found[names[position]] = (distance, names[frequent])
    return {name: other for name, (_, other) in found.items()}


def edits(left: str, right: str) -> int:
    """Insertions, deletions, changes and swaps of neighbours between two strings (optimal string alignment)."""
    table = np.zeros((len(left) + 1, len(right) + 1), np.int64)
    table[:, 0], table[0, :] = range(len(left) + 1), range(len(right) + 1)
    for i in range(1, len(left) + 1):
        for j in range(1, len(right) + 1):
            change = table[i - 1, j - 1] + (left[i - 1] != right[j - 1])
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, change)
            if i > 1 and j > 1 and left[i - 2 : i] == right[j - 1] + right[j - 2]:
                table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    return int(table[-1, -1])


def _deletions(name: str) -> set[str]:
    """The name, and itself without any one or two letters: names two edits apart share one of these forms."""
    one = {name[:i] + name[i + 1 :] for i in range(len(name))}
    two = {form[:i] + form[i + 1 :] for form in one for i in range(len(form))} if len(name) >= 10 else set()
    return {name} | one | two


def _plain(name: str) -> str:
    return _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", look(name)).casefold().strip())


def _finding(context: CheckContext, merged: dict[str, str], how: str, *, twin: bool) -> Finding:
    labels = context.labels
    codes = np.array([labels.index[name] for name in merged])
    per_part = {part: labels.counts(part)[codes] for part in context.parts}
    part = max(per_part, key=lambda part: int(per_part[part].sum()))
    rows = _with_any(context, part, codes)
    pairs = [f"{name!r} for {other!r}" for name, other in list(merged.items())[:5]]
    more = f" and {len(merged) - 5:,} more" if len(merged) > 5 else ""

    def note(i: int) -> str:
        mine = [name for name in labels.of_row(part, int(rows[i])) if name in merged]
        return f"{listed(mine)}; {listed([merged[name] for name in mine])} is more frequent"

    in_train = _with_any(context, "train", codes)
    # The names of wide 0/1 columns are the file's header; joining columns is left to a person.
    repairable = twin and len(in_train) and not context.train.schema.label_columns
    remedies = (Relabel(in_train, merged),) if repairable else ()
    return Finding(
        "label-spelling",
        "warning",
        part,
        f"{counted(len(merged), 'label')} {how}: {', '.join(pairs)}{more}",
        "write each label one way"
        if twin
        else "correct them if they are; otherwise nothing needs to be done",
        rows,
        note,
        count=len(merged),
        unit="label",
        remedies=remedies,
    )


def _with_any(context: CheckContext, part: str, codes: Indices) -> Indices:
    rows = context.labels.rows[part]
    return np.flatnonzero(np.asarray(rows[:, codes].sum(axis=1)).ravel()).astype(np.int64)
