"""The cases: rows of public data sets on the CPU, random tokens of declared lengths on a GPU."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.sets import SETS, Sizes, write_set
from benchmarks.speed.case import Case
from sortal.backbone.encoding import EncodedTexts

MAX_LENGTH = 256


@dataclass(frozen=True)
class Prepared:
    """Texts of a public set: those to train on with their gold labels, and those to predict."""

    train: list[str]
    gold: np.ndarray[Any, Any]
    labels: tuple[str, ...]
    task: str
    test: list[str]
    files: dict[str, str]


def prepare(name: str, data: Path, folder: Path, rows: int, texts: int) -> Prepared:
    """A seeded sample of a set; all of its labels count, whether or not the sample has them."""
    files = write_set(name, data, Sizes(None, None, texts, None), folder)
    train = [json.loads(line) for line in Path(files["data"]).read_text(encoding="utf-8").splitlines()]
    test = [json.loads(line) for line in Path(files["test"]).read_text(encoding="utf-8").splitlines()]
    single = SETS[name].single
    given = [[row["labels"]] if single else row["labels"] for row in train]
    labels = tuple(sorted({label for some in given for label in some}))
    index = {label: i for i, label in enumerate(labels)}
    if single:
        gold = np.array([index[some[0]] for some in given[:rows]])
    else:
        gold = np.zeros((rows, len(labels)), np.int64)
        for row, some in zip(gold, given, strict=False):
            row[[index[label] for label in some]] = 1
    chosen = [row["text"] for row in train[:rows]]
    return Prepared(
        chosen, gold, labels, "single" if single else "multi", [row["text"] for row in test], files
    )


def text_case(name: str, found: Prepared, model: str, template: str, folder: Path, **settings: Any) -> Path:
    """Write the case of a public set read with ``template``; returns its folder."""
    from sortal.backbone.sources import resolve
    from sortal.config import build_config
    from sortal.methods.text_folder import make_encoder

    base = resolve(model).path
    encoder = make_encoder(
        base, build_config({"model": model, "template": template, "max_length": MAX_LENGTH})
    )
    case = Case(
        name=name,
        base=base,
        labels=len(found.labels),
        task=found.task,
        pad_id=encoder.tokenizer.pad_token_id,
        max_length=MAX_LENGTH,
        template=template,
        **settings,
    )
    case.write(folder, encoder.encode(found.train), found.gold)
    return folder


# Decoders of published shapes, with random weights: speed and memory do not depend on their values.
SHAPES: dict[str, dict[str, int]] = {
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256},
    "3b": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8, "vocab_size": 128_256},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256},
    "medium": {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8, "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 32_000},
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 32_000},
}  # fmt: skip
TOKENS = 32_000  # random ones are below
LABELS = 20
# Padded tokens of one forward of the peer: what fits 80 GB without recomputation, at 7.8, 4.6 and 2.1 MB a token.
PEER_TOKENS = {"8b": 4_096, "3b": 8_192, "1b": 16_384}
PEER_TOKENS_NF4 = {**PEER_TOKENS, "8b": 8_192}


def drawn_lengths(longest: int, n: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Token counts: log-normal with median ``longest / 4`` and sigma 0.7, cut at ``longest``; at least 4."""
    drawn = np.random.default_rng(seed).lognormal(np.log(longest / 4), 0.7, n)
    return np.clip(drawn.astype(np.int64), 4, longest)


def save_config(name: str, folder: Path, **changes: int) -> Path:
    """The config of a decoder of shape ``name``."""
    from transformers import LlamaConfig

    LlamaConfig(**{"max_position_embeddings": 4096, **SHAPES[name], **changes}).save_pretrained(folder)
    return folder


def save_shape(name: str, folder: Path, dtype: str, **changes: int) -> Path:
    """A decoder of shape ``name`` with random weights, made on the CPU."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(save_config(name, folder, **changes))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).save_pretrained(folder)
    return folder


def shape_case(
    base: Path,
    shape: str,
    longest: int,
    quantization: str,
    folder: Path,
    *,
    labels: int = LABELS,
    tokens: int = TOKENS,
    **settings: Any,
) -> Path:
    """Write a case of random tokens below ``tokens``; returns its folder."""
    size = settings.get("batch_size", Case.batch_size)
    room = PEER_TOKENS_NF4 if quantization == "nf4" else PEER_TOKENS
    fitting = min(size, max(1, room.get(shape, 16_384) // longest))
    name = f"{shape}, {quantization}, up to {longest} tokens"
    if settings.get("memory"):
        name += f", microbatches of {settings['max_tokens']:,} on a card of {settings['memory'] / 1e9:.0f} GB"
    case = Case(
        name=name,
        base=str(base),
        labels=labels,
        task="single",
        pad_id=0,
        max_length=longest,
        template="random tokens",
        peer_rows=next(rows for rows in range(fitting, 0, -1) if size % rows == 0),
        quantization=quantization,
        **settings,
    )
    rng = np.random.default_rng(case.seed)
    lengths = drawn_lengths(longest, case.batch_size * case.steps, case.seed)
    # The first step is the largest and has a row of full length: later ones need no new memory, whose fetching would be measured.
    steps = lengths[case.order()].reshape(case.steps, case.batch_size)
    largest = int(steps.sum(1).argmax())
    steps[[0, largest]] = steps[[largest, 0]]
    steps[0, 0] = longest
    lengths[case.order()] = steps.ravel()
    flat = rng.integers(1, tokens, int(lengths.sum())).astype(np.int32)
    gold = rng.integers(0, labels, len(lengths))
    case.write(folder, EncodedTexts(flat, np.concatenate([[0], np.cumsum(lengths)]), 0), gold)
    return folder
