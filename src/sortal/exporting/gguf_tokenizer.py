"""A byte-level BPE tokenizer as the metadata of a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sortal.errors import ModelError

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# What llama.cpp calls a way of splitting text before merging.
_BY_PATTERN = {f"{_WORDS}\\p{{N}}{{1,3}}{_REST}": "llama-bpe", f"{_WORDS}\\p{{N}}{_REST}": "qwen2"}


def splitting_name(tokenizer: Any, folder: Path) -> str:
    """What llama.cpp calls the tokenizer's way of splitting text.

    Raises:
        ModelError: it has no name there, or the vocabulary is not a byte-level BPE.
    """
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    steps = backend["pre_tokenizer"] or {}
    steps = steps["pretokenizers"] if steps.get("type") == "Sequence" else [steps]
    kinds = [step.get("type") for step in steps]
    name = None
    if backend["model"]["type"] == "BPE" and kinds[-1] == "ByteLevel" and not steps[-1]["add_prefix_space"]:
        if kinds == ["ByteLevel"] and steps[0]["use_regex"]:
            name = "gpt-2"
        elif kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and steps[1]["use_regex"]:
            name = "smollm"
        elif kinds == ["Split", "ByteLevel"] and not steps[1]["use_regex"]:
            name = _BY_PATTERN.get(steps[0]["pattern"].get("Regex", ""))
    if name is None:
        raise ModelError(
            f"--to gguf does not know how llama.cpp calls the tokenizer of {folder} ({', '.join(map(str, kinds))})",
            "export with --to hf, and convert that folder with llama.cpp's convert_hf_to_gguf.py",
        )
    return name


def add_tokenizer(writer: Any, tokenizer: Any, size: int, folder: Path, *, adds_bos: bool) -> None:
    """Write tokens, their kinds, merges, special tokens and the chat template.

    Args:
        size: rows of the embedding, of which a tokenizer may leave the last unused.
        adds_bos: whether the tokenizer puts a first token before every text by itself.
    """
    import gguf

    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    known = {index: token for token, index in tokenizer.get_vocab().items()}
    special = {index: bool(token.special) for index, token in tokenizer.added_tokens_decoder.items()}
    kinds = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.USER_DEFINED, None: gguf.TokenType.NORMAL}
    tokens = [known.get(index, f"[PAD{index}]") for index in range(size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting_name(tokenizer, folder))
    writer.add_token_list(tokens)
    writer.add_token_types(
        [kinds[special.get(index)] if index in known else gguf.TokenType.UNUSED for index in range(size)]
    )
    merges = backend["model"]["merges"]
    if merges:  # an empty array has no type
        writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    for name in ("bos", "eos", "pad"):
        index = getattr(tokenizer, f"{name}_token_id")
        if index is not None:
            getattr(writer, f"add_{name}_token_id")(index)
    writer.add_add_bos_token(adds_bos)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)
