"""What is read of a text longer than the model reads at once: so much of each section, in one window or in several."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sortal.errors import ConfigError

Ints = npt.NDArray[np.int32]
Budget = int | Literal["all", "rest"]
Aggregation = Literal["mean", "max", "attention"]


@dataclass(frozen=True)
class LongTexts:
    """How long texts are read.

    sections: name and budget of every section in their order; empty for texts without sections. A budget is a number of tokens,
    ``all`` (as far as there is room), or ``rest``: filled last, with what the others left.
    windows: the most windows of one text. stride: tokens that neighbouring windows share.
    aggregation: how a text's windows become one row of scores.
    """

    sections: tuple[tuple[str, Budget], ...] = ()
    windows: int = 1
    stride: int = 0
    aggregation: Aggregation = "mean"

    @property
    def plain(self) -> bool:
        """Whether a text is one piece in one window."""
        return not self.sections and self.windows == 1

    @property
    def names(self) -> tuple[str, ...]:
        """The sections' names."""
        return tuple(name for name, _ in self.sections)

    def capacity(self, room: int) -> int:
        """Tokens of a text that are read in windows of ``room`` tokens.

        Raises:
            ConfigError: the windows share so many tokens that the next one would begin nowhere new.
        """
        if self.windows > 1 and self.stride >= room:
            raise ConfigError(
                f"stride {self.stride} leaves nothing new in a window, which holds {room} tokens of text",
                f"set stride below {room}, or raise max_length",
            )
        return room + (self.windows - 1) * (room - self.stride)

    def cut_windows(self, ids: Ints, room: int) -> list[Ints]:
        """``ids``, no more than `capacity`, as windows of at most ``room``; what fits into one is one."""
        step = room - self.stride
        extra = -(-max(len(ids) - room, 0) // step) if self.windows > 1 else 0
        return [ids[start : start + room] for start in range(0, extra * step + 1, max(step, 1))]

    def allot(self, lengths: Sequence[int], room: int) -> list[int]:
        """Tokens that each section may keep of its ``lengths``, in all at most ``room``: in their order, but ``rest`` last."""
        kept = [0] * len(lengths)
        order = sorted(range(len(lengths)), key=lambda i: self.sections[i][1] == "rest")
        for i in order:
            budget = self.sections[i][1]
            kept[i] = min(lengths[i], room, budget if isinstance(budget, int) else room)
            room -= kept[i]
        return kept

    def to_json(self, template_hash: str) -> dict[str, Any]:
        """For sortal.json, with a hash over everything and the template: two folders with equal hashes read texts alike."""
        values = {
            "sections": [list(section) for section in self.sections],
            "windows": self.windows,
            "stride": self.stride,
            "aggregation": self.aggregation,
        }
        return {**values, "hash": _hash(values, template_hash)}

    def hash(self, template_hash: str) -> str:
        """Of template and reading together; the template's own for a plain one."""
        return template_hash if self.plain else str(self.to_json(template_hash)["hash"])

    @classmethod
    def from_json(cls, values: Mapping[str, Any] | None, template_hash: str) -> LongTexts:
        """The inverse of `to_json`; None is a folder without long texts.

        Raises:
            ValueError: it was edited.
        """
        if values is None:
            return PLAIN
        found = cls(
            tuple((str(name), budget) for name, budget in values["sections"]),
            values["windows"],
            values["stride"],
            values["aggregation"],
        )
        if found.to_json(template_hash)["hash"] != values["hash"]:
            raise ValueError("long_texts does not match its hash")
        return found


def _hash(values: dict[str, Any], template_hash: str) -> str:
    return hashlib.sha256(json.dumps([values, template_hash]).encode()).hexdigest()[:16]


PLAIN = LongTexts()
