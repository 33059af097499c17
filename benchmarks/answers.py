"""How a finished head's answers move with the way its weights are held, and what the products cost: adapters beside the weights, merged, and in 8 bits.

    python -m benchmarks.answers --model MODEL_DIR --data TEST_FILE

Every way labels all rows of a labelled file; the page shows accuracy, the labels that differ from those with adapters beside the weights (as training
computes them), how many of these rows each way alone gets right, and seconds of CPU. Then the products of one forward through 30 layers of 576 × 1,536, by
kernel of torch and number of tokens. Writes benchmarks/results/answers.json and answers.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.command import command
from sortal import load
from sortal.backbone.held import HeldWeights
from sortal.backbone.int8 import quantize_weights
from sortal.backbone.packed_weights import pack_weights
from sortal.classifier import Classifier

RESULTS = Path(__file__).parent / "results"
LAYERS, SHAPES = 30, ((576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536))
TOKENS = (1, 8, 16, 32, 64, 256, 1024)
ROUNDS = 5


def beside(folder: Path) -> Classifier:
    """With adapters beside the weights: what may be shared is not changed."""
    with HeldWeights().sharing():
        return load(folder)


WAYS: dict[str, Callable[[Path], Classifier]] = {
    "adapters beside the weights": beside,
    "merged": load,
    "merged, int8": lambda folder: load(folder, weights="int8"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path, help="model folder of a single-label head")
    parser.add_argument("--data", required=True, help="labelled rows")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    answers = {name: answered(way(arguments.model), arguments.data) for name, way in WAYS.items()}
    found = {
        "command": command("answers", ("--data", "--model")),
        "data": "/".join(Path(arguments.data).parts[-2:]),
        "threads": arguments.threads,
        "answers": compared(answers),
        "products": {tokens: products(tokens) for tokens in TOKENS},
    }
    (RESULTS / "answers.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "answers.md").write_text(page(found))
    print(page(found))


def answered(classifier: Classifier, data: str) -> dict[str, Any]:
    """Probabilities of all rows, their labels, and what it took."""
    rows = classifier.read(data)
    texts = list(rows.iter_texts())
    classifier.scorer.score(texts[:32])
    began = time.process_time()
    scores = classifier.scorer.score(texts)
    seconds = time.process_time() - began
    probabilities = classifier.decision.probabilities(scores)
    right = probabilities.argmax(1) == classifier.label_space.encode(rows)
    return {"probabilities": probabilities, "right": right, "seconds": seconds}


def compared(answers: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Each way beside the first one."""
    first = next(iter(answers.values()))
    return [
        {
            "way": way,
            "rows": len(found["right"]),
            "accuracy": float(found["right"].mean()),
            "other_labels": int((found["probabilities"].argmax(1) != first["probabilities"].argmax(1)).sum()),
            "only_here": int((found["right"] & ~first["right"]).sum()),
            "only_there": int((first["right"] & ~found["right"]).sum()),
            "mean_difference": float(np.abs(found["probabilities"] - first["probabilities"]).max(1).mean()),
            "texts_per_cpu_second": len(found["right"]) / found["seconds"],
        }
        for way, found in answers.items()
    ]


class Stack(nn.Module):
    """The projections of a decoder's layers, under the names that they are found by."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(nn.Linear(columns, rows, bias=False) for rows, columns in SHAPES)
            for _ in range(LAYERS)
        )
        self.requires_grad_(False).bfloat16()

    @property
    def linears(self) -> list[nn.Linear]:
        """All of them, layer by layer."""
        return [module for module in self.modules() if isinstance(module, nn.Linear)]


@torch.inference_mode()
def products(tokens: int) -> dict[str, float]:
    """Milliseconds of all products of one forward, by kernel; the fastest of some rounds."""
    return {name: 1000 * min(timed(calls) for _ in range(ROUNDS)) for name, calls in kernels(tokens)}


def kernels(tokens: int) -> Iterator[tuple[str, list[Callable[[], Any]]]]:
    """The same products by each kernel, as calls."""
    x = {columns: torch.randn(1, tokens, columns).bfloat16() for columns in (576, 1536)}
    flat = {columns: one[0] for columns, one in x.items()}
    bytes_ = {columns: torch.randint(-127, 127, one.shape, dtype=torch.int8) for columns, one in flat.items()}
    stack = Stack()
    linears = stack.linears
    whole = [(torch.randint(-127, 127, w.weight.shape, dtype=torch.int8), w.in_features) for w in linears]
    ones = torch.ones(max(rows for rows, _ in SHAPES)).bfloat16()
    yield "bf16", [lambda w=w: w(x[w.in_features]) for w in linears]
    pack_weights(stack)
    yield "bf16, packed", [lambda w=w: w(x[w.in_features]) for w in linears]
    yield (
        "_weight_int8pack_mm",
        [lambda w=w, n=n: torch._weight_int8pack_mm(flat[n], w, ones[: len(w)]) for w, n in whole],
    )
    yield "_int_mm", [lambda w=w, n=n: torch._int_mm(bytes_[n], w.t()) for w, n in whole]
    quantize_weights(stack)
    # As in a layer: what q, k and v, or gate and up, read is rounded once; what the others read is another tensor.
    other = {columns: one.clone() for columns, one in x.items()}
    reads = [x, x, x, other, x, x, other]
    yield (
        "int8 with rounding",
        [
            lambda w=w, read=read: w(read[w.in_features])
            for w, read in zip(linears, reads * LAYERS, strict=True)
        ],
    )


def timed(calls: list[Callable[[], Any]]) -> float:
    began = time.perf_counter()
    for call in calls:
        call()
    return time.perf_counter() - began


def page(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "# Answers by the way weights are held",
        "",
        f"`{found['command']}`, {found['threads']} threads: a head on {found['data']}. Absolute figures mean something on this machine only.",
        "",
        "| weights | rows | accuracy | other labels than the first | right only here | right only there | mean largest difference of a probability | texts/s of CPU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['way']} | {one['rows']:,} | {one['accuracy']:.4f} | {one['other_labels']} | {one['only_here']} | {one['only_there']} | {one['mean_difference']:.4f} | {one['texts_per_cpu_second']:.1f} |"
        for one in found["answers"]
    ]
    names = list(next(iter(found["products"].values())))
    lines += [
        "",
        f"Milliseconds of all products of a forward, {LAYERS} layers of seven weights between 576, 192 and 1,536, by kernel; `_int_mm` and `_weight_int8pack_mm` without what goes before and after them.",
        "",
        f"| tokens | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    lines += [
        f"| {tokens} | {' | '.join(f'{values[name]:.1f}' for name in names)} |"
        for tokens, values in found["products"].items()
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
