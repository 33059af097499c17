"""What a local model folder holds, read from its JSON and safetensors headers: nothing is loaded or executed."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from sortal.errors import ModelError

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".msgpack", ".h5")
_CODE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
# Ways out of a template: private attributes, the attr filter, other files. No honest chat template needs them.
_ESCAPE = re.compile(r"\.\s*__\w|['\"]__\w|\|\s*attr\b|\bmro\b|^\{%[-+]?\s*(?:include|import|extends|from)\b")


@dataclass(frozen=True)
class FolderFacts:
    """Headline numbers of a model folder; a number the folder does not state is None."""

    model_type: str
    layers: int | None
    hidden_size: int | None
    vocab_size: int | None
    parameters: int
    dtype: str
    bytes: int
    max_length: int | None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model folder.

    Raises:
        ModelError: missing, unreadable or not an object.
    """
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror})", "give a complete model folder"
        ) from error
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON ({error})", "download or save the model again") from error
    if not isinstance(loaded, dict):
        raise ModelError(f"{path} does not hold a JSON object", "download or save the model again")
    return loaded


def check_folder(folder: Path, *, trust_remote_code: bool = False) -> dict[str, Any]:
    """The config of a folder that can be loaded without running anybody's code.

    Returns:
        config.json as a dict.

    Raises:
        ModelError: no config, no safetensors (pickle or ONNX weights only, or just an adapter), remote code while
            ``trust_remote_code`` is False, a chat template that reaches for Python internals, or no tokenizer.
    """
    names = sorted(p.name for p in folder.iterdir())
    _refuse_missing_weights(folder, names)
    config = read_json(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{folder / 'config.json'} names no model_type", "give a transformers model folder")
    if config.get("is_encoder_decoder"):
        raise ModelError(
            f"{folder} holds an encoder-decoder model ({config['model_type']})", "use a decoder or an encoder"
        )
    for name in ("config.json", "tokenizer_config.json"):
        if name in names and "auto_map" in (found := read_json(folder / name)) and not trust_remote_code:
            raise ModelError(
                f"{folder / name} asks to run Python code shipped with the model (auto_map: "
                f"{', '.join(map(str, found['auto_map'])) if found['auto_map'] else 'empty'}); refused, nothing was executed",
                "read that code and pass --set trust_remote_code=true, or delete auto_map if transformers knows the "
                f"architecture {config['model_type']!r} itself",
            )
    _check_templates(folder)
    if not {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"} & set(names):
        raise ModelError(
            f"{folder} has no tokenizer", "copy the tokenizer files (tokenizer.json …) into the folder"
        )
    return config


def _refuse_missing_weights(folder: Path, names: list[str]) -> None:
    weights = [n for n in names if n.endswith(".safetensors") and n != "adapter_model.safetensors"]
    if weights and "config.json" in names:
        return
    if weights:
        raise ModelError(
            f"{folder} has weights but no config.json", "give a complete transformers model folder"
        )
    if pickles := [n for n in names if n.endswith(_PICKLES) and n != "training_args.bin"]:
        raise ModelError(
            f"{folder} holds its weights only as {pickles[0]}, a format that can run code when it is opened: refused",
            "use a safetensors version of the model",
        )
    if "adapter_config.json" in names:
        raise ModelError(
            f"{folder} holds an adapter, not a base model",
            "give the base model; to use the adapter: sortal predict",
        )
    if "model" in names and (folder / "model" / "sortal.json").is_file():
        raise ModelError(
            f"{folder} is a run folder",
            f"its classifier is {folder / 'model'}; for training give a base model",
        )
    if any(n.endswith(".onnx") for n in names) or (folder / "onnx").is_dir():
        raise ModelError(
            f"{folder} holds ONNX weights only, which cannot be fine-tuned", "use a safetensors version"
        )
    raise ModelError(
        f"{folder} holds no model weights (*.safetensors or *.gguf)", "give a complete model folder"
    )


def _check_templates(folder: Path) -> None:
    texts = [(p, p.read_text(encoding="utf-8", errors="replace")) for p in sorted(folder.rglob("*.jinja"))]
    for name in ("tokenizer_config.json", "chat_template.json", "processor_config.json"):
        if (folder / name).is_file():
            found = read_json(folder / name).get("chat_template")
            texts += [(folder / name, text) for text in _strings(found)]
    for path, text in texts:
        if any(_ESCAPE.search(code) for code in _CODE.findall(text)):
            raise ModelError(
                f"the chat template in {path} reaches for Python internals or other files: refused, nothing was executed",
                "remove the template (classification does not need it) or use a model from a source you trust",
            )


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    return [text for item in value for text in _strings(item)] if isinstance(value, list) else []


def read_tensors(path: Path) -> dict[str, tuple[str, int]]:
    """``{name: (dtype, number of values)}`` from a safetensors header.

    Raises:
        ModelError: damaged or truncated.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size - 8:
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = max((facts["data_offsets"][1] for facts in header.values()), default=0)
        if 8 + length + end != size:
            raise ValueError(f"{8 + length + end} bytes expected, {size} found")
        return {name: (str(facts["dtype"]), prod(facts["shape"])) for name, facts in header.items()}
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is damaged ({error})", "download or save the model again") from error


def folder_facts(folder: Path) -> FolderFacts:
    """Count a folder's parameters and read its shape from config.json.

    Raises:
        ModelError: no config or damaged weights.
    """
    config = read_json(folder / "config.json")
    text = config.get("text_config")
    shape: dict[str, Any] = {**config, **text} if isinstance(text, dict) else config
    tensors: dict[str, tuple[str, int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= read_tensors(path)
    by_dtype: dict[str, int] = {}
    for dtype, count in tensors.values():
        by_dtype[dtype] = by_dtype.get(dtype, 0) + count
    return FolderFacts(
        model_type=str(config.get("model_type", "?")),
        layers=_first(shape, "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        hidden_size=_first(shape, "hidden_size", "n_embd", "d_model", "dim"),
        vocab_size=_first(shape, "vocab_size"),
        parameters=sum(by_dtype.values()),
        dtype=max(by_dtype, key=lambda name: by_dtype[name]) if by_dtype else "?",
        bytes=sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
        max_length=_first(shape, "max_position_embeddings", "n_positions", "max_seq_len"),
    )


def _first(config: dict[str, Any], *names: str) -> int | None:
    return next((int(config[name]) for name in names if isinstance(config.get(name), int)), None)
