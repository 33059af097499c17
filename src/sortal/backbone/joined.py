"""Texts that begin alike as one tree: what they have in common is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sortal.backbone.trees import TreeRow

Ints = npt.NDArray[np.int64]
# Every token of a row looks at all keys of its row, so a wide row costs more attention than common beginnings save.
_WIDTH = 64


@dataclass(frozen=True)
class Joined:
    """One row, and where each of its texts' tokens are in it: int64 ``[length]`` per text, in the order given."""

    row: TreeRow
    paths: tuple[Ints, ...]


def alphabetical(texts: Sequence[Ints]) -> list[int]:
    """Positions of ``texts`` in the order of their ids, so that those which begin alike are neighbours."""
    return sorted(range(len(texts)), key=lambda i: texts[i].tolist())


def join(texts: Sequence[Ints], width: int = _WIDTH) -> list[Joined]:
    """Rows of neighbouring texts with a common beginning; a row holds at most ``width`` tokens or one text.

    Args:
        texts: ids ``[length]``, none empty; in the order of `alphabetical` they have most in common.
    """
    rows: list[list[Ints]] = []
    used, last = 0, np.zeros(0, np.int64)
    for text in texts:
        new = len(text) - common_beginning(last, text)
        if rows and new < len(text) and used + new <= width:
            rows[-1].append(text)
            used += new
        else:
            rows.append([text])
            used = len(text)
        last = text
    return [_joined(texts) for texts in rows]


def _joined(texts: Sequence[Ints]) -> Joined:
    if len(texts) == 1:
        return Joined(TreeRow(texts[0]), (np.arange(len(texts[0])),))
    ids, paths = texts[0], [np.arange(len(texts[0]))]
    for before, text in pairwise(texts):
        common = common_beginning(before, text)
        paths.append(
            np.concatenate([paths[-1][:common], len(ids) + np.arange(len(text) - common)]).astype(np.int64)
        )
        ids = np.concatenate([ids, text[common:]])
    depth = np.zeros(len(ids), np.int64)
    visible = np.zeros((len(ids), len(ids)), dtype=bool)
    for path in paths:
        depth[path] = np.arange(len(path))
        visible[path[:, None], path] = np.tri(len(path), dtype=bool)
    return Joined(TreeRow(ids, depth, visible), tuple(paths))


def common_beginning(one: Ints, other: Ints) -> int:
    """Number of equal ids at the beginning."""
    n = min(len(one), len(other))
    different = np.flatnonzero(one[:n] != other[:n])
    return int(different[0]) if len(different) else n
