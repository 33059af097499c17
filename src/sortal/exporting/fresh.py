"""Answers of an exported classifier from a fresh process that knows transformers and peft only.

`probabilities` starts it; run as a module it is that process. It imports nothing of Sortal's networks, so a patch that Sortal
made to transformers in this process cannot flatter the export.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sortal.data.labels import LabelSpace
    from sortal.exporting.formats import Floats
    from sortal.training.progress import ProgressView

_BATCH = 16
_COMPLAINTS = ("newly initialized", "MISSING", "UNEXPECTED", "MISMATCH")


def probabilities(asked: dict[str, str], space: LabelSpace, texts: list[str], view: ProgressView) -> Floats:
    """Probabilities ``[n, labels]``, float64, columns in label-space order.

    Args:
        asked: ``kind`` (``pipeline``, ``adapter``), ``folder`` and, for an adapter, ``base``.

    Raises:
        ModelError: the folder does not load there, with what was said, or loads with weights missing, left over or made up.
    """
    import numpy as np

    from sortal.errors import ModelError

    with tempfile.TemporaryDirectory() as scratch:
        question, answer, said = (Path(scratch) / name for name in ("texts.json", "answer.npy", "said"))
        question.write_text(
            json.dumps({**asked, "texts": texts, "labels": list(space.names)}), encoding="utf-8"
        )
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        with said.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "sortal.exporting.fresh", str(question), str(answer)],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                text=True,
            )
        assert process.stdout is not None
        try:
            view.start("asking the export", len(texts))
            for line in process.stdout:  # how many answers there are more; a library may print, too
                if line.strip().isdigit():
                    view.advance(int(line), 0)
            view.stop()
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        words = said.read_text(encoding="utf-8", errors="replace").strip()
        if code != 0 or not answer.exists():
            raise ModelError(
                f"the export does not load in transformers: {words.splitlines()[-1] if words else f'exit code {code}'}",
                "nothing was written; report this with the model's family",
            )
        found: Floats = np.load(answer, allow_pickle=False)
        return found


def main(question: Path, answer: Path) -> None:
    """Read the texts, answer, and write what came out; numbers of answers go to stdout as they come."""
    import numpy as np
    import transformers

    asked = json.loads(question.read_text(encoding="utf-8"))
    transformers.utils.logging.disable_progress_bar()
    complaints: list[str] = []
    logger = logging.getLogger("transformers")
    logger.addHandler(_Listener(complaints))
    predict = _KINDS[asked["kind"]](asked)
    if asked["kind"] != "adapter" and complaints:  # peft wants a classifier whose score is yet to come
        raise SystemExit("; ".join(" ".join(line.split()) for line in complaints)[:500])
    texts, names = asked["texts"], asked["labels"]
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    found = np.zeros((len(texts), len(names)))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        for row, scores in zip(rows, predict([texts[row] for row in rows]), strict=True):
            found[row] = [scores[name] for name in names]
        print(len(rows), flush=True)
    np.save(answer, found)


def _pipeline(asked: dict[str, Any]) -> Callable[[list[str]], Iterator[dict[str, float]]]:
    import torch
    from transformers import pipeline

    # fp32 products, whatever is stored: half-precision ones are slow on a CPU, and their rounding is the caller's machine's.
    classify = pipeline("text-classification", model=asked["folder"], dtype=torch.float32)

    def predict(texts: list[str]) -> Iterator[dict[str, float]]:
        for row in classify(texts, top_k=None, truncation=True, batch_size=len(texts)):
            yield {entry["label"]: entry["score"] for entry in row}

    return predict


def _adapter(asked: dict[str, Any]) -> Callable[[list[str]], Iterator[dict[str, float]]]:
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(asked["folder"])
    config = AutoConfig.from_pretrained(asked["folder"])
    base = AutoModelForSequenceClassification.from_pretrained(
        asked["base"], config=config, dtype=torch.float32
    )
    model = PeftModel.from_pretrained(base, asked["folder"]).eval()
    multi = config.problem_type == "multi_label_classification"

    def predict(texts: list[str]) -> Iterator[dict[str, float]]:
        batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**batch).logits
        for row in logits.sigmoid() if multi else logits.softmax(-1):
            yield {config.id2label[i]: float(p) for i, p in enumerate(row)}

    return predict


_KINDS = {"pipeline": _pipeline, "adapter": _adapter}


class _Listener(logging.Handler):
    """Remembers what transformers says about weights that are not where they belong."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__()
        self.heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if any(word in message for word in _COMPLAINTS):
            self.heard.append(message)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
