"""Near-duplicates in another part that the listed pairs only lead to.

Where dozens of texts are all alike, such as those made from one template, `NearPairs` lists for each only some of those it is
like, and maybe none of the part that is asked for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sortal.checks.base import CheckContext
from sortal.checks.near import NEAR
from sortal.checks.shingles import similarity
from sortal.data.dataset import Indices

_TRIED = 128  # texts of the other part that each is compared with, at most; of a template's, many are alike
_AT_ONCE = 50


def reached(
    context: CheckContext, seen: str, part: str, texts: Indices
) -> tuple[Indices, Indices, npt.NDArray[np.float64]]:
    """Those of ``texts`` of ``part`` that are like one of ``seen`` in the same chain of pairs; it; how alike they are.

    Args:
        texts: int64 ``[k]``, numbers of `TextIds`.

    Returns:
        numbers of `TextIds` int64 ``[m]`` twice, and similarities float64 ``[m]``, at least `NEAR`.
    """
    ids, near = context.text_ids, context.near
    edges = coo_matrix((np.ones(len(near.texts), np.int8), tuple(near.texts.T)), (ids.count, ids.count))
    _, chain = connected_components(edges, directed=False)
    here, there = ids.first(part), ids.first(seen)
    others = np.flatnonzero(there >= 0)
    others = others[np.argsort(chain[others], kind="stable")]
    starts, ends = (np.searchsorted(chain[others], chain[texts], side=side) for side in ("left", "right"))
    led = ends > starts
    texts, starts, sizes = texts[led], starts[led], (ends - starts)[led]
    best, source = np.zeros(len(texts)), np.zeros(len(texts), np.int64)
    for begin in range(0, len(texts), _AT_ONCE):
        some = slice(begin, begin + _AT_ONCE)
        width = int(min(_TRIED, sizes[some].max()))
        # Evenly spread over the chain, so that one group of it does not hide another.
        places = starts[some, None] + sizes[some, None] * np.arange(width) // width
        tried, column = np.unique(others[places], return_inverse=True)
        mine = len(places)
        words = context.parts[part].text_at(here[texts[some]]) + context.parts[seen].text_at(there[tried])
        left = np.repeat(np.arange(mine), width)
        found = similarity(words, left, mine + column.ravel()).reshape(mine, width)
        chosen = found.argmax(axis=1)
        best[some] = found[np.arange(mine), chosen]
        source[some] = others[places[np.arange(mine), chosen]]
    alike = best >= NEAR
    return texts[alike], source[alike], best[alike]
