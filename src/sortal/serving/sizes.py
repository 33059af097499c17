"""How many tokens a text will come to, before it is its turn to be counted in the models' thread."""

from __future__ import annotations

import math
from collections.abc import Sequence

_FIRST = 0.25  # tokens of a byte of English
_WEIGHT = 0.2


class SizeEstimate:
    """Tokens from bytes, at the rate of the texts that were counted lately: it differs by language and tokenizer.

    Args:
        fixed: tokens that even an empty text comes to.
        longest: no text has more, since longer ones are cut; None when they are not.
    """

    def __init__(self, fixed: int, longest: int | None = None) -> None:
        self._fixed, self._longest = fixed, longest
        self._per_byte = _FIRST

    def __call__(self, text: str) -> int:
        """Tokens of ``text``, at least 1."""
        found = max(1, self._fixed + math.ceil(_bytes(text) * self._per_byte))
        return found if self._longest is None else min(found, self._longest)

    def learn(self, texts: Sequence[str], tokens: Sequence[int]) -> None:
        """Take what ``texts`` came to into account, but for those that were cut."""
        whole = [(_bytes(t), n) for t, n in zip(texts, tokens, strict=True) if n != self._longest]
        if length := sum(size for size, _ in whole):
            rate = sum(n - self._fixed for _, n in whole) / length
            self._per_byte += _WEIGHT * (rate - self._per_byte)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
