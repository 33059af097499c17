"""An exported classifier in onnxruntime; this file needs nothing of Sortal's and stands in the README of every ONNX export."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class OnnxClassifier:
    """``OnnxClassifier(folder)(texts)`` gives probabilities ``[texts, labels]``, columns in the order of ``labels``."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.labels: list[str] = about["labels"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # Not saved in tokenizer.json: that "</s>" in a text is four characters and not the end of it.
        self.tokenizer.encode_special_tokens = about["plain_special_tokens"]
        self.tokenizer.enable_truncation(about["max_length"], direction=about["truncation_side"])
        pad = about["pad_token"]
        self.tokenizer.enable_padding(pad_id=self.tokenizer.token_to_id(pad), pad_token=pad)
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"))

    def __call__(self, texts: list[str]) -> Any:
        """float32 ``[texts, labels]``."""
        rows = self.tokenizer.encode_batch(texts)
        batch = {
            "input_ids": np.array([row.ids for row in rows], dtype=np.int64),
            "attention_mask": np.array([row.attention_mask for row in rows], dtype=np.int64),
        }
        return self.session.run(["probabilities"], batch)[0]
