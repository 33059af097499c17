"""Short runs on tiny models, and the same models read by plain transformers and peft."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FAMILIES = ("llama", "qwen3", "gemma3", "mistral", "gpt2")
WORDS = {
    "good": "fine nice lovely great",
    "bad": "poor ugly broken awful",
    "odd": "strange queer curious weird",
}
# What breaks pooling: the texts of special tokens, nothing at all, other scripts, and very different lengths.
HARD_TEXTS = (
    "a",
    "fine and nice, thank you",
    "",
    "<|end|>",
    "x <|start|>",
    " <|start|><|end|> in the middle <|end|><|end|>",
    "Ünïcode 文字 \U0001f600",
    "a rather long text that goes on, and on, and on, well past any sliding window of a few tokens",
)


def rows(n: int = 40, labels: Sequence[str] = ("good", "bad")) -> list[tuple[str, str]]:
    """Separable rows, labels in turn; no two texts are alike."""
    words = [WORDS.get(label, label + " thing").split() for label in labels]
    made = []
    for i in range(n):
        mine = words[i % len(labels)]
        text = " ".join(mine[(i + k) % len(mine)] for k in range(1 + i % 4))
        made.append((f"{text} {i}", labels[i % len(labels)]))
    return made


def write_csv(path: Path, lines: Sequence[Sequence[str]], header: Sequence[str] = ("text", "label")) -> Path:
    """A CSV file with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(lines)
    return path


def fit(data: Path, model: Path, out: Path, *, said: list[str] | None = None, **settings: Any) -> Any:
    """A `Result` of a short fp32 run with learning rates that move a tiny model; ``said`` collects what was printed."""
    from sortal.config import build_config
    from sortal.run import run

    values: dict[str, Any] = {
        "data": str(data),
        "model": str(model),
        "out": str(out),
        "dtype": "float32",
        "epochs": 1,
        "batch_size": 8,
        "learning_rate": 5e-3,
        "head_learning_rate": 5e-2,
        "max_length": 128,
        "threads": 1,
        "n_resamples": 100,
        "blend": "none",  # what is blended has tests of its own
    }
    lines = [] if said is None else said
    return run(build_config(values | settings), say=lines.append, quiet=True)


def plain_classifier(model_dir: Path, base: Path) -> tuple[Any, Any]:
    """Tokenizer and peft model of a saved folder, by the documented lines of plain transformers and peft."""
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    config = AutoConfig.from_pretrained(model_dir)
    model = AutoModelForSequenceClassification.from_pretrained(base, config=config)
    return AutoTokenizer.from_pretrained(model_dir), PeftModel.from_pretrained(model, model_dir).eval()


def plain_logits(
    tokenizer: Any, model: Any, texts: Sequence[str], side: str | None = None, **more: Any
) -> Any:
    """Logits ``[n, labels]`` of plain transformers for one padded batch."""
    import torch

    if side is not None:
        tokenizer.padding_side = side
    batch = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    if side == "left" and model.config.model_type == "gpt2":
        # Absolute positions count the padding unless they are given; transformers leaves that to its caller.
        batch["position_ids"] = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        return model(**batch, **more).logits.numpy()


def classifier(base: Path, *, labels: int = 3, pad: int = 1, dtype: str = "float32", **more: Any) -> Any:
    """`loading.load_classifier` on the CPU with a score head of ``labels`` rows."""
    import torch

    from sortal.backbone import loading

    torch.manual_seed(0)
    config = loading.load_config(str(base))
    config.num_labels, config.pad_token_id = labels, pad
    return loading.load_classifier(
        str(base), config, dtype=getattr(torch, dtype), device=torch.device("cpu"), **more
    )


def stir(model: Any, scale: float = 0.1) -> Any:
    """Random values for every adapter and the score, so that none of them is a no-op."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_A" not in name:
                noise = torch.randn(parameter.shape, generator=generator) * scale
                parameter.copy_(noise)
    return model


def random_rows(*lengths: int, vocabulary: int = 258) -> list[list[int]]:
    """Token ids without the two special ones."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [rng.integers(2, vocabulary, n).tolist() for n in lengths]


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file in place."""
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(values | changes, ensure_ascii=False), encoding="utf-8")
