"""The folders of the collection: ``train|test/<section>/<class>/<subclass letter>/<main group>/<an>_<ddmmyyyy>.xml``, at times a level more."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from sortal.data.ipc import IpcSymbol, parse
from sortal.errors import DataError

Part = Literal["train", "test"]
PARTS: tuple[Part, ...] = ("train", "test")
_PART_NAMES: dict[str, Part] = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_DATE = re.compile(r"_([0-9]{2})([0-9]{2})([0-9]{4})$")


@dataclass(frozen=True)
class RecordFile:
    """A file of the collection: its path below the root with ``/`` between folders, its size, and when it was changed."""

    path: str
    size: int
    changed_ns: int

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders above it, outermost first."""
        return tuple(self.path.split("/")[:-1])

    @property
    def stem(self) -> str:
        """Its name without ``.xml``."""
        return self.path.rpartition("/")[2].rpartition(".")[0]

    @property
    def shown(self) -> str:
        """Its path as valid Unicode, for reports."""
        return os.fsencode(self.path).decode("utf-8", "replace")

    @property
    def date(self) -> date | None:
        """The date in its name; None without one that exists."""
        found = _DATE.search(self.stem)
        try:
            return date(int(found[3]), int(found[2]), int(found[1])) if found else None
        except ValueError:
            return None

    def part(self, root_name: str) -> Part:
        """``test`` below a folder of that name (or when the root has it), else ``train``."""
        for name in (*self.folders, root_name):
            if part := _PART_NAMES.get(name.lower()):
                return part
        return "train"

    @property
    def symbol(self) -> IpcSymbol | None:
        """The symbol that its folders spell, however many folders lie around it; None when they spell none."""
        names = [name.upper() for name in self.folders]
        for i in range(len(names) - 2):
            if not re.fullmatch("[A-H]", names[i]) or not re.fullmatch("[0-9]{2}", names[i + 1]):
                continue
            group = names[i + 3] if i + 3 < len(names) else ""
            group = f"{int(group)}/00" if re.fullmatch("[0-9]{1,4}", group) and int(group) else ""
            try:
                return parse(f"{names[i]}{names[i + 1]}{names[i + 2]}{group}")
            except DataError:
                continue
        return None


def find_records(root: Path) -> list[RecordFile]:
    """Every ``.xml`` file below ``root``, however deep, sorted by path; links are not followed.

    Raises:
        DataError: ``root`` is no folder, or has none.
    """
    if not root.is_dir():
        raise DataError(
            f"{root} is not a folder", "give the folder that holds the collection's train and test folders"
        )
    found = sorted(_walk(os.fspath(root), ""), key=lambda file: file.path)
    if not found:
        raise DataError(
            f"{root} holds no .xml files (links are not followed)",
            "give the folder of the unpacked collection",
        )
    return found


def _walk(root: str, below: str) -> Iterator[RecordFile]:
    pending = [below]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(root, folder)) as entries:  # noqa: PTH118 - a million of these
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                elif entry.name.lower().endswith(".xml") and entry.is_file(follow_symlinks=False):
                    status = entry.stat()
                    yield RecordFile(path, status.st_size, status.st_mtime_ns)
