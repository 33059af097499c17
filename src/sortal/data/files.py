"""From a path or hub id to a reader, and from a folder to its train, dev and test files."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from sortal.data.arrow import ArrowFile
from sortal.data.delimited import DelimitedFile
from sortal.data.encoding import chunks, detect
from sortal.data.folders import ClassFolders, expand_shards, is_class_folder
from sortal.data.hub import HubRecords, hub_splits, is_saved_dataset, looks_like_hub_id
from sortal.data.jsonl import JsonLinesFile, open_json
from sortal.data.lines import LinesFile, is_fasttext
from sortal.data.problems import listed
from sortal.data.records import RecordSource, Say
from sortal.errors import DataError

KINDS = {
    ".csv": "delimited",
    ".tsv": "delimited",
    ".tab": "delimited",
    ".txt": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
_SUPPORTED = "give a .csv, .tsv, .jsonl, .json, .parquet, .arrow, .feather or .txt file (each may be .gz), a folder of them, or a hub id"
_PARTS = {
    "train": ("train", "training"),
    "dev": ("dev", "validation", "valid", "val", "development", "eval"),
    "test": ("test", "testing"),
}
_SHARD = re.compile(r"-\d+-of-(\d+)$")


def open_source(source: str | Path, say: Say) -> RecordSource:
    """The reader for a file, a folder's training file, or a hub id.

    Raises:
        DataError: nothing there (with the nearest file names), an unknown format, or a broken file.
        ResourceError: a hub id without a network.
    """
    name = str(source)
    path = Path(source)
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise DataError(
            f"{name[:200]!r} cannot be opened: {error.args[-1]}", "check the path and its permissions"
        ) from None
    if path.is_dir():
        if is_saved_dataset(path):
            return HubRecords(name)
        found = find_files(path)
        if "train" in found and Path(found["train"]) == path:
            return ClassFolders(path, name, say)
        return open_source(found["train"] if "train" in found else next(iter(found.values())), say)
    if not path.exists():
        shards = expand_shards(name, lambda file: open_source(file, say))
        if shards is not None:
            return shards
        folder = name.partition("#")[0]
        if "#" in name and Path(folder).is_dir() and is_saved_dataset(Path(folder)):
            return HubRecords(name)
        if names_hub_data(name):
            return HubRecords(name)
        raise DataError(f"{name} does not exist{_neighbours(path)}", "check the path")
    kind = kind_of(path) or _kind_from_bytes(path)
    if kind == "parquet":
        return ArrowFile(path, name, "parquet")
    if kind == "arrow":
        return ArrowFile(path, name, "arrow")
    if kind == "jsonl":
        return JsonLinesFile(path, name, say)
    if kind == "json":
        return open_json(path, name, say)
    if kind == "text":
        return _text_file(path, name, say)
    if kind == "delimited":
        return DelimitedFile(path, name, say)
    raise DataError(f"{name}: the format {path.suffix or '(no file extension)'} is not known", _SUPPORTED)


def names_hub_data(source: str) -> bool:
    """Whether ``source`` can only mean a hub data set: nothing here has that name, and it is not written like a file's."""
    path = Path(source)
    if path.exists() or not looks_like_hub_id(source) or kind_of(path) is not None:
        return False
    if "/" in source:
        return not path.parent.is_dir()
    return not Path(re.split("[:#]", source)[0]).suffix  # d.cvs is a slip of the pen


def find_files(folder: str | Path) -> dict[str, str]:
    """``{"train": …, "dev": …, "test": …}`` (those that exist) for a folder, a saved data set or a hub id.

    Files are found by name: ``train.csv``, ``validation.parquet``, ``test-00000-of-00001.parquet`` …; a folder with a
    single data file gives it as ``train``. Without data files, ``train/<class>/<file>.txt`` or ``<class>/<file>.txt`` are read.

    Raises:
        DataError: no data file, no training file among several, or two candidates for one part.
    """
    path = Path(folder)
    if not path.is_dir() or is_saved_dataset(path):
        return _named_parts(hub_splits(str(folder)))
    files = sorted(
        file for file in path.iterdir() if file.is_file() and kind_of(file) and file.name[0] != "."
    )
    found: dict[str, list[Path]] = {part: [] for part in _PARTS}
    for file in files:
        if part := _part(_SHARD.sub("", _stem(file))):
            found[part].append(file)
    candidates = {part: _one(folder, part, matches) for part, matches in found.items() if matches}
    data = [file for file in files if kind_of(file) != "text"]
    if not candidates and not data:
        if inner := _part_folders(path):
            return inner
        if is_class_folder(path):
            return {"train": str(folder)}
        if (path / "data").is_dir():
            return find_files(path / "data")
    data = data or files
    if not candidates and len(data) == 1:
        return {"train": str(data[0])}
    if "train" not in candidates:
        names_found = [file.name for file in data]
        raise DataError(
            f"{folder} has no training file; it holds {listed(names_found) if names_found else 'no data files'}",
            "name one train.csv (or .tsv, .jsonl, .parquet …), or give the file itself",
        )
    return candidates


def part_files(
    data: str | Path, dev: str | Path | None = None, test: str | Path | None = None
) -> dict[str, str]:
    """``{"train": …, "dev": …, "test": …}`` (those that exist): ``data`` or what is found in it, and ``dev`` and ``test`` where given.

    Raises:
        DataError: see `find_files`.
    """
    name = str(data)
    files = find_files(data) if Path(name).is_dir() or names_hub_data(name) else {"train": name}
    given = {"dev": dev, "test": test}
    return files | {part: str(path) for part, path in given.items() if path is not None}


def _part(name: str) -> str | None:
    return next((part for part, names in _PARTS.items() if name.lower() in names), None)


def _part_folders(path: Path) -> dict[str, str]:
    """Class folders inside ``train/``, ``test/`` … in ``path``; empty without a training one."""
    folders = {
        part: child for child in sorted(path.iterdir()) if child.is_dir() and (part := _part(child.name))
    }
    found = {
        part: str(folders[part]) for part in _PARTS if part in folders and is_class_folder(folders[part])
    }
    return found if "train" in found else {}


def _one(folder: str | Path, part: str, matches: list[Path]) -> str:
    if len(matches) == 1:
        return str(matches[0])
    patterns = {_SHARD.sub(r"-*-of-\1", _stem(file)) + file.name[len(_stem(file)) :] for file in matches}
    if len(patterns) == 1 and all(_SHARD.search(_stem(file)) for file in matches):
        return str(Path(folder) / patterns.pop())
    raise DataError(
        f"{folder} has several {part} files: {listed([file.name for file in matches])}",
        "name the file you mean",
    )


def _named_parts(splits: dict[str, str]) -> dict[str, str]:
    found = {part: splits[name] for part, names in _PARTS.items() for name in names if name in splits}
    if "train" not in found and len(splits) == 1:
        return {"train": next(iter(splits.values()))}
    return found


def kind_of(path: Path) -> str | None:
    """One of the values of `KINDS` by the ending of the name (before ``.gz``), or None."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return KINDS.get(suffixes[-1]) if suffixes else None


def _stem(path: Path) -> str:
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return Path(name).stem


def _kind_from_bytes(path: Path) -> str | None:
    head = next(chunks(path), b"")[:64]
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "arrow"
    if head.startswith(b"PK\x03\x04"):
        raise DataError(
            f"{path} is a ZIP archive or spreadsheet", "unpack it, or save the sheet as CSV (UTF-8)"
        )
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return "json" if start in (b"{", b"[") else None


def _text_file(path: Path, name: str, say: Say) -> RecordSource:
    file = detect(path, lambda message: None)
    if not is_fasttext(file):
        with file.open() as stream:
            header = {cell.strip().strip('"').casefold() for cell in re.split(r"[,;\t|]", stream.readline())}
        # A header is only believed in when it names a text column: prose has commas too.
        if len(header) > 1 and header & {
            "text",
            "sentence",
            "label",
            "labels",
            "category",
            "message",
            "review",
        }:
            return DelimitedFile(path, name, say)
    return LinesFile(path, name, say)


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (and there is no folder {path.parent})"
    names = sorted(file.name for file in path.parent.iterdir())
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if close:
        return f"; the nearest names in {path.parent} are {listed(close)}"
    files = [name for name in names if KINDS.get(Path(name).suffix.lower())]
    return f"; {path.parent} holds {listed(files, 10)}" if files else f"; {path.parent} holds no data files"
