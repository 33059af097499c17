"""Tiny models and wheels made on the spot, so that no test needs weights from anywhere."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np


def save_tiny_llama(folder: Path, *, seed: int = 0) -> Path:
    """A random 2-layer Llama with a byte-level tokenizer, saved as transformers saves it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny(family: str, folder: Path, *, seed: int = 0, layers: int = 2) -> Path:
    """A random decoder of ``family`` (llama, qwen3, gemma3, mistral, gpt2), as transformers saves it.

    gemma3 and mistral get a sliding window of 6 tokens, shorter than the test texts; gpt2 has no pad token and Conv1D layers.
    """
    import torch
    from transformers import (
        AutoModelForCausalLM,
        Gemma3TextConfig,
        GPT2Config,
        LlamaConfig,
        MistralConfig,
        Qwen3Config,
    )

    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 0,
        "pad_token_id": None,
    }
    configs = {
        "llama": lambda: LlamaConfig(**shape),
        "qwen3": lambda: Qwen3Config(**shape),
        "mistral": lambda: MistralConfig(**shape, sliding_window=6),
        "gemma3": lambda: Gemma3TextConfig(
            **shape, sliding_window=6, layer_types=["sliding_attention", "full_attention"] * (layers // 2)
        ),
        "gpt2": lambda: GPT2Config(
            vocab_size=len(tokenizer),
            n_embd=32,
            n_layer=layers,
            n_head=4,
            n_positions=512,
            bos_token_id=1,
            eos_token_id=0,
        ),
    }
    model = AutoModelForCausalLM.from_config(configs[family]())
    # Random initial weights give nearly constant states; larger ones make a wrong token or mask visible.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<|end|>", "<|start|>", *letters])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", bos_token="<|start|>")


def write_gguf(
    path: Path, *, quantisation: str = "F32", template: str | None = None
) -> dict[str, np.ndarray]:
    """A random 2-layer Llama GGUF; returns its tensors as float32, de-quantised, in the file's own layout."""
    import gguf
    from tokenizers import pre_tokenizers

    hidden, heads, kv_heads, inner, layers = 32, 4, 2, 64, 2
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_rope_freq_base(10000.0)
    tokens = ["<|end|>", "<|start|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "he", "ĊĊ"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(["h e", "Ċ Ċ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    if template is not None:
        writer.add_chat_template(template)
    shapes = {"token_embd.weight": (len(tokens), hidden), "output_norm.weight": (hidden,)}
    for layer in range(layers):
        block = f"blk.{layer}."
        shapes |= {f"{block}{name}_norm.weight": (hidden,) for name in ("attn", "ffn")}
        shapes |= {f"{block}{name}.weight": (hidden, hidden) for name in ("attn_q", "attn_output")}
        narrow = (hidden * kv_heads // heads, hidden)
        shapes |= {f"{block}{name}.weight": narrow for name in ("attn_k", "attn_v")}
        shapes |= {f"{block}{name}.weight": (inner, hidden) for name in ("ffn_gate", "ffn_up")}
        shapes[f"{block}ffn_down.weight"] = (hidden, inner)
    rng = np.random.default_rng(0)
    written = {}
    for name, shape in shapes.items():
        values = (rng.standard_normal(shape) * 0.1).astype(np.float32)
        kind = gguf.GGMLQuantizationType[quantisation if len(shape) > 1 else "F32"]
        blocks = gguf.quantize(values, kind)
        writer.add_tensor(name, blocks, raw_dtype=kind)
        written[name] = gguf.dequantize(blocks, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return written


def build_wheel(
    folder: Path, name: str, files: dict[str, bytes | Path], version: str = "1.0"
) -> tuple[Path, str]:
    """A wheel that pip accepts, holding ``files``; returns its path and SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    wheel = folder / f"{stem}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: CC0-1.0\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, content in files.items():
            archive.writestr(member, content if isinstance(content, bytes) else content.read_bytes())
        archive.writestr(f"{stem}.dist-info/METADATA", metadata)
        archive.writestr(
            f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return wheel, hashlib.sha256(wheel.read_bytes()).hexdigest()


def folder_members(folder: Path, inside: str) -> dict[str, bytes | Path]:
    """The files of a model folder as wheel members below ``inside``."""
    return {f"{inside}/{path.name}": path for path in sorted(folder.iterdir()) if path.is_file()}
