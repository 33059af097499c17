"""``gguf``: one file for llama.cpp and what is built on it, of an ``instruct`` model.

Written with the `gguf` package, whose tables name every tensor; llama.cpp's own converter is no package. What that converter does
beyond names is little for these families: rows of q and k in the order of llama.cpp's rotation (Llama only), and a tokenizer in
metadata, whose way of splitting text has to be one that llama.cpp knows by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch

from sortal.backbone import loading
from sortal.backbone.quiet import quiet
from sortal.backbone.template import own_prefix
from sortal.errors import ModelError
from sortal.exporting import language
from sortal.exporting.formats import Floats
from sortal.exporting.gguf_tokenizer import add_tokenizer, splitting_name
from sortal.exporting.hf import bytes_of
from sortal.exporting.networks import read_language_model
from sortal.exporting.subject import Subject, refuse_method
from sortal.training.atomic import write_json
from sortal.training.progress import ProgressView

MODEL = "model.gguf"
# transformers' model_type → llama.cpp's architecture.
_ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


class GgufFormat:
    """``model.gguf`` and a request."""

    runtime: ClassVar[str] = "transformers' GGUF reader"

    def check(self, subject: Subject) -> None:
        """Refuse classifiers with a score layer, and families and tokenizers that this writer does not know."""
        refuse_method(
            subject,
            "gguf",
            ("instruct",),
            "llama.cpp has no place for a trained score layer; export with --to hf, --to vllm or --to onnx",
        )
        settings = loading.load_config(str(subject.folder))
        if settings.model_type not in _ARCHITECTURES:
            raise ModelError(
                f"--to gguf knows {', '.join(_ARCHITECTURES)}, and {subject.folder} is a {settings.model_type} model",
                "export with --to hf, and convert that folder with llama.cpp's convert_hf_to_gguf.py",
            )
        rope = getattr(settings, "rope_parameters", None) or {}
        odd = [name for name in ("attention_bias", "mlp_bias") if getattr(settings, name, False)]
        if rope.get("rope_type", "default") != "default":
            odd.append(f"rope_type {rope['rope_type']}")
        if getattr(settings, "use_sliding_window", False):
            odd.append("use_sliding_window")
        if odd:
            raise ModelError(
                f"--to gguf cannot write {', '.join(odd)} of {subject.folder}",
                "export with --to hf, and convert that folder with llama.cpp's convert_hf_to_gguf.py",
            )
        splitting_name(loading.load_tokenizer(str(subject.folder)), subject.folder)

    def size(self, subject: Subject, parameters: int) -> int:
        """The file."""
        return parameters * (2 if subject.int8 else bytes_of(subject.dtype))

    def write(self, subject: Subject, folder: Path) -> None:
        """The file, and a request with a grammar of the labels."""
        model = read_language_model(subject)
        write_model(model, loading.load_tokenizer(str(subject.folder)), subject, folder / MODEL)
        write_json(folder / language.REQUEST, language.llama_cpp_request(subject))

    def probabilities(self, subject: Subject, folder: Path, texts: list[str], view: ProgressView) -> Floats:
        """The weights as transformers reads them back, de-quantised; the tokenizer stays the model folder's."""
        return language.probabilities(subject, lambda: _read_back(folder), texts, view)

    def notes(self, subject: Subject) -> str:
        """The command, and what was not tested."""
        return (
            f"```sh\nllama-server -m FOLDER/{MODEL}\n"
            "curl http://127.0.0.1:8080/completion -H 'Content-Type: application/json' "
            f"-d @FOLDER/{language.REQUEST}\n```\n\n"
            "The weights were read back and compared; llama.cpp itself was not run, nor its reading of the tokenizer.\n\n"
        ) + language.cautions(subject, "llama-server")

    def facts(self, subject: Subject) -> dict[str, Any]:
        """What kind of file it is."""
        kind = {"tensor_type": tensor_type(subject), "llama_cpp_was_run": False}
        return {**language.answer_facts(subject), **kind}


def tensor_type(subject: Subject) -> str:
    """GGML's name for how matrices are stored."""
    return "Q8_0" if subject.int8 else _TYPES[subject.dtype]


def write_model(model: Any, tokenizer: Any, subject: Subject, path: Path) -> None:
    """Write ``model``, in fp32, and its tokenizer."""
    import gguf

    settings = model.config
    architecture = _ARCHITECTURES[settings.model_type]
    kind = gguf.GGMLQuantizationType[tensor_type(subject)]
    writer = gguf.GGUFWriter(path, architecture, use_temp_file=False)
    writer.add_name(f"sortal {subject.meta['base_model']['spec']}")
    _add_shape(writer, settings)
    writer.add_file_type(_file_type(tensor_type(subject)))
    add_tokenizer(
        writer, tokenizer, settings.vocab_size, subject.folder, adds_bos=bool(own_prefix(tokenizer))
    )
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, settings.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and settings.tie_word_embeddings:
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ModelError(
                f"--to gguf has no name for {name}",
                "export with --to hf, and convert that folder with llama.cpp",
            )
        values = tensor.float()
        if architecture == "llama" and (heads := _rotated(name, settings)):
            values = rotated_rows(values, heads)
        array = values.contiguous().numpy()
        own = kind if array.ndim > 1 else gguf.GGMLQuantizationType.F32
        if own == gguf.GGMLQuantizationType.Q8_0 and array.shape[-1] % 32:
            own = gguf.GGMLQuantizationType.F16  # its blocks hold 32 values of a row
        writer.add_tensor(found, gguf.quantize(array, own), raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rotated_rows(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a q or k projection ``[heads · d, hidden]``: transformers rotates row i of a head with row i + d/2, llama.cpp neighbours."""
    return weight.view(heads, 2, -1, weight.shape[-1]).transpose(1, 2).reshape(weight.shape)


def _rotated(name: str, settings: Any) -> int:
    """Heads of a q or k projection; 0 for other tensors."""
    if name.endswith("q_proj.weight"):
        return int(settings.num_attention_heads)
    return int(settings.num_key_value_heads) if name.endswith("k_proj.weight") else 0


def _add_shape(writer: Any, settings: Any) -> None:
    head = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
    writer.add_context_length(settings.max_position_embeddings)
    writer.add_embedding_length(settings.hidden_size)
    writer.add_block_count(settings.num_hidden_layers)
    writer.add_feed_forward_length(settings.intermediate_size)
    writer.add_head_count(settings.num_attention_heads)
    writer.add_head_count_kv(settings.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(settings.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(settings.rms_norm_eps)
    writer.add_vocab_size(settings.vocab_size)


def _file_type(name: str) -> Any:
    import gguf

    return gguf.LlamaFileType["ALL_F32" if name == "F32" else f"MOSTLY_{name}"]


def _read_back(folder: Path) -> Any:
    import transformers

    gguf_config = getattr(transformers, "GgufConfig", None)
    dense = {"quantization_config": gguf_config(gguf_file=MODEL, dequantize=True)} if gguf_config else {}
    with quiet():
        return transformers.AutoModelForCausalLM.from_pretrained(
            str(folder), gguf_file=MODEL, dtype=torch.float32, local_files_only=True, **dense
        )
