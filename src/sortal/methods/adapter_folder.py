"""Label names kept in config.json, and adapters read back from a model folder: on the base they were tuned on, every tensor in its place, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from safetensors import safe_open

from sortal.backbone.fingerprint import weights_fingerprint
from sortal.backbone.quiet import quiet
from sortal.backbone.sources import ModelSource, resolve
from sortal.errors import ModelError

if TYPE_CHECKING:
    from sortal.backbone.adapters import PeftModel


class Named(Protocol):
    """What the outputs of a network are called: a label space, or units of a tree."""

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of the outputs."""


def name_labels(settings: Any, outputs: Named) -> None:
    """Write the order of the outputs into the model's config, where transformers and `check_labels` look for it."""
    settings.num_labels = len(outputs.names)
    settings.id2label = dict(enumerate(outputs.names))
    settings.label2id = {name: i for i, name in enumerate(outputs.names)}


def check_labels(folder: Path, settings: Any, outputs: Named) -> None:
    """Refuse a folder whose two files name the labels differently."""
    if tuple(str(settings.id2label[i]) for i in range(settings.num_labels)) != outputs.names:
        raise ModelError(
            f"{folder}: config.json and sortal.json disagree about the labels",
            "restore both files from one run",
        )


def check_base(folder: Path, meta: dict[str, Any]) -> ModelSource:
    """The base model that ``folder`` was tuned on.

    Raises:
        ModelError: it is another one now.
    """
    base = resolve(meta["base_model"]["spec"])
    if base.revision != meta["base_model"]["revision"]:
        raise ModelError(
            f"{folder} was tuned on {meta['base_model']['spec']} at {meta['base_model']['revision']}, "
            f"but that spec now gives {base.revision}",
            "pin the revision, or restore the base model",
        )
    known = meta["base_model"].get("fingerprint")
    if known is not None and known != weights_fingerprint(base.path):
        raise ModelError(
            f"{folder} was tuned on other weights than {meta['base_model']['spec']} holds now",
            "restore the base model it was tuned on, or train again",
        )
    return base


def attach_adapter(base: Any, folder: Path) -> PeftModel:
    """``base`` with the folder's adapter, every tensor of the one having found its place in the other (S3).

    peft only warns about tensors it misses, and an adapter that is left at its initial values does nothing.
    """
    from sortal.backbone.adapters import PeftModel, get_peft_model_state_dict

    try:
        with quiet():
            # Adapters are made empty: filling them with random numbers first takes as long as reading them.
            model = PeftModel.from_pretrained(base, str(folder), low_cpu_mem_usage=True)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{folder}: the adapter does not fit its base model ({reason})", "restore the folder from its run"
        ) from None
    path = folder / "adapter_model.safetensors"
    expected = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    found = set(adapter_shapes(path))
    if missing := sorted(expected - found):
        raise ModelError(
            f"{path} lacks {len(missing)} of {len(expected)} tensors, {missing[0]} first",
            "restore the file from the run",
        )
    if stray := sorted(found - expected):
        raise ModelError(
            f"{path} holds {len(stray)} tensors this model has no place for, {stray[0]} first",
            "restore adapter_config.json and the adapter from one run",
        )
    return model


def adapter_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a safetensors file, from its header."""
    if not path.exists():
        raise ModelError(f"{path} is missing", "restore it from the run that made this folder")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises its own type, which is not exported under a stable name
        raise ModelError(f"{path} is damaged ({error})", "restore it from the run") from None
