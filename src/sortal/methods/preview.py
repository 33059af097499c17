"""What ``--dry-run`` shows of the first training rows: token ids for a language model, features for a linear one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol


class PreviewRow(Protocol):
    """One training row as training sees it; ``row`` is its position among the training rows."""

    @property
    def row(self) -> int:
        """The position."""

    def lines(self) -> list[str]:
        """For people: how much is read, then what."""

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""


class Preview(Protocol):
    """The first rows, and totals over all training rows."""

    @property
    def rows(self) -> Sequence[PreviewRow]:
        """The first rows."""

    def summary(self, truncation: str) -> str:
        """The totals in words; ``truncation`` is the policy for too long texts."""

    def to_json(self) -> dict[str, Any]:
        """The totals for ``--json``."""


@dataclass(frozen=True)
class TokenRow:
    """A row of tokens.

    ids: all token ids; read: which of them are predicted (instruct) or read (head); about: what happens there, in words.
    sections: a line for each section of the text. windows: ids and decoded, of every further window.
    """

    row: int
    ids: list[int]
    decoded: str
    read: list[int]
    about: str
    sections: tuple[str, ...] = ()
    windows: tuple[tuple[list[int], str], ...] = ()

    def lines(self) -> list[str]:
        """The sections, then the tokens decoded and their ids, window by window."""
        lines = [
            f"{len(self.ids)} tokens, {self.about}",
            *(f"  section  {line}" for line in self.sections),
            f"  decoded  {self.decoded!r}",
            f"  ids      {self.ids}",
        ]
        for number, (ids, decoded) in enumerate(self.windows, start=2):
            lines += [f"  window {number}  {len(ids)} tokens {decoded!r}", f"  ids      {ids}"]
        return lines

    def to_json(self) -> dict[str, Any]:
        """Everything; nothing is padded, so the mask is all ones."""
        return {
            "ids": self.ids,
            "decoded": self.decoded,
            "attention_mask": [1] * len(self.ids),
            "read_at": self.read,
            **({"sections": list(self.sections)} if self.sections else {}),
            **({"windows": [ids for ids, _ in self.windows]} if self.windows else {}),
        }


@dataclass(frozen=True)
class TokenPreview:
    """Rows of tokens; ``tokens`` are those of an epoch, ``windows`` says how many windows there are, if texts have several."""

    rows: list[TokenRow]
    tokens: int
    truncated: int
    max_length: int
    template_hash: str
    windows: str = ""

    def summary(self, truncation: str) -> str:
        """Tokens and truncated rows."""
        limit = "all windows" if self.windows else f"{self.max_length} tokens"
        return f"{self.tokens:,} tokens per epoch, {self.windows}{self.truncated:,} truncated to {limit} ({truncation})"

    def to_json(self) -> dict[str, Any]:
        """Everything but the rows."""
        return {
            "tokens_per_epoch": self.tokens,
            "truncated": self.truncated,
            "template_hash": self.template_hash,
        }


@dataclass(frozen=True)
class FeatureRow:
    """A row of features: for each kind of them, name → value, the largest first."""

    row: int
    features: dict[str, dict[str, float]]
    shown: int = 8

    def lines(self) -> list[str]:
        """How many features the text has, then the largest of each kind."""
        counts = [f"{len(found)} {kind}" for kind, found in self.features.items()]
        lines = ["features: " + (", ".join(counts) or "none")]
        for kind, found in self.features.items():
            first = [f"{name!r} {value:.3f}" for name, value in islice(found.items(), self.shown)]
            more = ["…"] if len(found) > self.shown else []
            lines.append(f"  {kind:<10}  {', '.join([*first, *more])}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """All features."""
        return {"features": self.features}


@dataclass(frozen=True)
class FeaturePreview:
    """Rows of features; ``about`` says what the features are, ``counts`` how many of each kind there are."""

    rows: list[FeatureRow]
    about: str
    counts: dict[str, int]

    def summary(self, truncation: str) -> str:
        """What is read; texts are read whole."""
        return self.about

    def to_json(self) -> dict[str, Any]:
        """The counts."""
        return dict(self.counts)
