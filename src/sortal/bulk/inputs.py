"""From the words of a command (files, folders, globs, URLs, a hub id) to a sorted list of files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path, PurePosixPath

from sortal.bulk.storage import is_url, join, storage
from sortal.data.files import KINDS, kind_of, names_hub_data
from sortal.data.folders import is_class_folder
from sortal.data.hub import is_saved_dataset
from sortal.data.problems import listed
from sortal.errors import DataError

_WILD = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Input:
    """One file to label.

    source: as the readers take it. name: relative to the folder or glob it was found by, with forward slashes. folder: the one that
    was given and holds it, if any.
    """

    source: str
    name: str
    folder: str | None = None


def expand(words: Sequence[str]) -> list[Input]:
    """The inputs in the order of ``words``; those of one folder or glob sorted by name.

    A folder gives every file below it with the ending of a data format, hidden ones left out. A saved data set and a folder
    of text files by class are one input each.

    Raises:
        DataError: nothing matches, or one file is given twice.
    """
    found = [each for word in words for each in _expand(word)]
    seen: dict[str, str] = {}
    for each in found:
        real = each.source if is_url(each.source) else str(Path(each.source).resolve())
        if real in seen:
            raise DataError(f"{each.source} is given twice", "name every file once")
        seen[real] = each.source
    return found


def _expand(word: str) -> Iterable[Input]:
    if is_url(word):
        return _remote(word)
    path = Path(word)
    if path.is_dir():
        if is_saved_dataset(path) or is_class_folder(path):
            return [Input(word, path.resolve().name)]
        return _in_folder(word, storage(word).files(word))
    if _WILD.search(word) and not path.exists():
        root = _fixed_part(word)
        matches = [
            path.relative_to(root) for path in root.glob(str(path.relative_to(root))) if path.is_file()
        ]
        names = sorted(match.as_posix() for match in matches if not _hidden(match.as_posix()))
        return _matched(word, str(root), names)
    name = re.sub(r"[^\w.-]+", "-", word) if names_hub_data(word) else path.name
    return [Input(word, name)]


def _remote(url: str) -> list[Input]:
    if _WILD.search(url):
        scheme, _, rest = url.partition("://")
        root = f"{scheme}://{_fixed_part(rest).as_posix()}"
        pattern = url.removeprefix(root).lstrip("/")
        # As in a shell, * stays within one folder unless the pattern says **.
        names = [
            name
            for name in storage(url).files(root)
            if fnmatchcase(name, pattern)
            and ("**" in pattern or name.count("/") == pattern.count("/"))
            and not _hidden(name)
        ]
        return _matched(url, root, names)
    if storage(url).is_folder(url):
        return _in_folder(url, storage(url).files(url))
    return [Input(url, url.rstrip("/").rpartition("/")[2])]


def _in_folder(folder: str, names: Sequence[str]) -> list[Input]:
    kept = [name for name in names if kind_of(Path(name)) and not _hidden(name)]
    if not kept:
        raise DataError(
            f"{folder} holds no data files", f"their names end in {', '.join(KINDS)}, each also with .gz"
        )
    return [Input(join(folder, name), name, folder) for name in kept]


def _matched(pattern: str, root: str, names: Sequence[str]) -> list[Input]:
    if not names:
        held = sorted(storage(root).names(root))
        raise DataError(
            f"no file matches {pattern}" + (f"; {root} holds {listed(held, 5)}" if held else ""),
            "check the pattern",
        )
    return [Input(join(root, name), name) for name in names]


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _fixed_part(pattern: str) -> Path:
    """The folders of a pattern before its first wildcard."""
    parts = Path(pattern).parts
    return Path(*takewhile(lambda part: not _WILD.search(part), parts))
