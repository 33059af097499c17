"""From a GGUF file to a transformers folder: safetensors, config and fast tokenizer, written once.

Quantised weights become the values the blocks stand for, in bfloat16. They are what a 4-bit runtime multiplies with,
not the weights the model was published with, and every result made from them has to say so (`GgufFacts.note`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortal.errors import ModelError, ResourceError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_EXACT = ("F32", "F16", "BF16")
# Pre-tokenizers that split digits one by one before the GPT-2 pattern; transformers' own reader leaves that step out,
# which encodes white space in front of a number differently from how the model was trained.
_SINGLE_DIGITS = frozenset(
    {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
)


@dataclass(frozen=True)
class GgufFacts:
    """What a GGUF file's header says.

    Attributes:
        quantisation: type of most matrix weights, for example ``Q4_1``.
        dtype: torch dtype name of the converted weights.
        out_bytes: size of the converted weights.
    """

    architecture: str
    quantisation: str
    dtype: str
    out_bytes: int
    licence: str | None
    pre_tokenizer: str | None
    context_length: int | None

    @property
    def note(self) -> str:
        """What a reader of results has to know about these weights."""
        if self.quantisation in _EXACT:
            return f"converted from GGUF {self.quantisation} to {self.dtype}"
        return f"de-quantised from GGUF {self.quantisation} to {self.dtype}"


def read_facts(path: Path) -> GgufFacts:
    """Read a GGUF header.

    Raises:
        ModelError: not a GGUF file, truncated, one part of several, or without tensors.
    """
    from gguf import GGUFReader, LlamaFileType

    try:
        if path.stat().st_size < 32:
            raise ValueError("the file is too short")
        reader = GGUFReader(path)
        values: dict[str, Any] = {
            key: field.contents()
            for key, field in reader.fields.items()
            if not key.startswith("tokenizer.ggml.tokens")
        }
        sizes = [
            (tensor.tensor_type.name, len(tensor.shape), int(prod(map(int, tensor.shape))))
            for tensor in reader.tensors
        ]
    except Exception as error:  # the reader raises whatever the broken bytes lead to
        raise ModelError(
            f"{path} is not a readable GGUF file ({error})", "download or copy it again"
        ) from error
    if int(values.get("split.count", 1) or 1) > 1:
        raise ModelError(
            f"{path} is one part of a split GGUF model", "join the parts first (llama-gguf-split --merge)"
        )
    if not sizes or "general.architecture" not in values:
        raise ModelError(
            f"{path} holds no model (no weights or no architecture)", "give a GGUF file of a language model"
        )
    matrices: Counter[str] = Counter()
    for kind, dimensions, count in sizes:
        if dimensions > 1:
            matrices[kind] += count
    common = matrices.most_common(1)[0][0] if matrices else sizes[0][0]
    file_type = values.get("general.file_type")
    if common not in _EXACT and file_type in {int(t) for t in LlamaFileType}:
        common = LlamaFileType(file_type).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    dtype = "float32" if set(matrices) <= {"F32"} else "bfloat16"
    architecture = str(values["general.architecture"])
    licence, pre = values.get("general.license"), values.get("tokenizer.ggml.pre")
    context = values.get(f"{architecture}.context_length")
    return GgufFacts(
        architecture=architecture,
        quantisation=common,
        dtype=dtype,
        out_bytes=sum(count for _, _, count in sizes) * (4 if dtype == "float32" else 2),
        licence=str(licence) if licence else None,
        pre_tokenizer=str(pre) if pre else None,
        context_length=int(context) if context else None,
    )


def convert(path: Path, out: Path) -> GgufFacts:
    """Write the model in ``path`` to the folder ``out`` as transformers saves it.

    Args:
        path: a GGUF file of a decoder.
        out: an existing, empty folder.

    Raises:
        ModelError: unreadable, or an architecture transformers cannot read from GGUF.
    """
    import torch
    import transformers

    facts = read_facts(path)
    where = {
        "pretrained_model_name_or_path": str(path.parent),
        "gguf_file": path.name,
        "local_files_only": True,
    }
    # transformers before GgufConfig always de-quantised; since then it keeps blocks unless told otherwise.
    gguf_config = getattr(transformers, "GgufConfig", None)
    dense = {"quantization_config": gguf_config(gguf_file=path.name, dequantize=True)} if gguf_config else {}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            **where, **dense, dtype=getattr(torch, facts.dtype), trust_remote_code=False
        )
    except MemoryError as error:
        raise ResourceError(
            f"not enough memory to convert {path.name}", "close other programs, or use a smaller model"
        ) from error
    except Exception as error:  # whatever the file's bytes lead to, in three libraries
        raise ModelError(
            f"{path.name}: transformers {transformers.__version__} cannot read this GGUF (architecture {facts.architecture!r}): "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "use the model's safetensors version, or an architecture such as llama, qwen2, qwen3, gemma3 or mistral",
        ) from error
    if facts.pre_tokenizer in _SINGLE_DIGITS:
        split_single_digits(tokenizer.backend_tokenizer)
    if facts.context_length:
        tokenizer.model_max_length = facts.context_length
    for config in (model.config, model.generation_config):
        if hasattr(config, "quantization_config"):
            delattr(config, "quantization_config")
    # The GGUF's own title is not a place to load from; it would be taken for a hub id by whoever reads the config.
    model.config._name_or_path = ""
    model.save_pretrained(out)
    for key in ("is_local", "local_files_only"):  # how it was loaded here, not what it is
        tokenizer.init_kwargs.pop(key, None)
    tokenizer.save_pretrained(out)
    return facts


def split_single_digits(tokenizer: Tokenizer) -> None:
    """Put a step that isolates each digit before the tokenizer's pre-tokenizer, unless it is there already."""
    from tokenizers import pre_tokenizers

    present = tokenizer.pre_tokenizer
    if present is None or "Digits" in repr(present):
        return
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, present])
