"""What ``--dry-run`` shows of the first training rows: token ids for a language model, features for a linear one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """Rows of tokens; totals over the training rows.

    tokens: of an epoch. longest: of a row. shared: of a prompt that is read once for all rows of a microbatch, not in ``tokens``.
    most_windows: of one text. windows: of all texts. in_several: texts with more than one. section_cuts: texts that lost a part of a
    section, by its name. examples: of those beside each text, in words and as figures.
    """

    rows: list[TokenRow]
    tokens: int
    truncated: int
    max_length: int
    template_hash: str
    longest: int
    shared: int = 0
    most_windows: int = 1
    windows: int = 0
    in_several: int = 0
    section_cuts: Mapping[str, int] = field(default_factory=dict)
    examples: str = ""
    example_figures: Mapping[str, int] = field(default_factory=dict)

    def summary(self, truncation: str) -> str:
        """Tokens, windows and truncated rows."""
        found, limit = f"{self.tokens:,} tokens per epoch, ", f"{self.max_length} tokens"
        if self.most_windows > 1:
            found += f"{self.windows:,} windows, {self.in_several:,} texts in several; "
            limit = f"{self.most_windows} windows"
        return (
            f"{found}{self.truncated:,} truncated to {limit} ({truncation}){cut_sections(self.section_cuts)}"
            f"{self.examples and '; '}{self.examples}"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything but the rows."""
        return {
            "tokens_per_epoch": self.tokens,
            "truncated": self.truncated,
            "template_hash": self.template_hash,
            **({"truncated_sections": dict(self.section_cuts)} if self.section_cuts else {}),
            **self.example_figures,
            **({"windows": self.windows} if self.most_windows > 1 else {}),
        }


def cut_sections(cuts: Mapping[str, int]) -> str:
    """How many texts lost a part of which section, in words; nothing where texts have none."""
    found = ", ".join(f"{name} of {n:,} texts" for name, n in cuts.items())
    return f"; cut sections: {found}" if found else ""


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
