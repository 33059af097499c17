"""Which columns a data set was read from: chosen once on the training file, reused for every other file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sortal.data.canonical import Spelling

Task = Literal["single", "multi"]
_TUPLES = ("text", "label_columns", "level_columns", "level_spellings")


@dataclass(frozen=True)
class Schema:
    """The resolved reading of a file. ``read(other_file, **schema.arguments())`` reads another file the same way.

    ``label_delimiter`` is None when cells hold lists, and ``""`` when a cell is one label as it stands. ``label_spelling`` is what all labels
    of the file together are: "1.0" is "1" where all are numbers, also in a file that has no others. ``level_spellings`` says the same of
    each level column; empty in schemas saved before it was kept.
    """

    text: tuple[str, ...] = ("text",)
    text_template: str | None = None
    label: str | None = None
    label_columns: tuple[str, ...] = ()
    label_delimiter: str | None = None
    id: str | None = None
    group: str | None = None
    task: Task | None = None
    level_columns: tuple[str, ...] = ()
    label_spelling: Spelling | None = None
    level_spellings: tuple[Spelling, ...] = ()

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for `sortal.data.reading.read`; without ``group``, a column that other files need not have."""
        names = (
            "text", "text_template", "label", "label_columns", "label_delimiter", "label_spelling", "level_columns",
            "level_spellings", "id",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names} | {"task": self.task or "auto"}

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; `from_json` reads it back."""
        return asdict(self) | {name: list(getattr(self, name)) for name in _TUPLES}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Schema:
        """The inverse of `to_json`."""
        known = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
        return cls(**known | {name: tuple(values.get(name, ())) for name in _TUPLES})
