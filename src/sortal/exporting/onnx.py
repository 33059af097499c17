"""``onnx``: one graph from token ids to probabilities, for onnxruntime and a tokenizer alone.

Torch's exporter traces the network with a batch and a length that may be anything; pooling, score and softmax or sigmoid are
in the graph, so it also holds what transformers' classifiers have no place for: means over tokens, intercepts, cut encoders.
"""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from sortal.backbone.folders import read_json
from sortal.errors import ConfigError, MissingDependencyError, ModelError
from sortal.exporting.formats import Floats
from sortal.exporting.hf import copy_tokenizer
from sortal.exporting.networks import Network, read_network
from sortal.exporting.subject import Subject, refuse_method
from sortal.training.atomic import write_json
from sortal.training.progress import ProgressView

MODEL = "model.onnx"
ABOUT = "config.json"
_PACKAGES = ("onnx", "onnxscript", "onnxruntime", "tokenizers")
_BATCH = 16
_LARGEST = 2_000_000_000  # bytes of a protobuf file; weights of larger models lie beside it


class OnnxFormat:
    """``model.onnx``, the tokenizer's file and what its caller has to know about texts."""

    runtime: ClassVar[str] = "onnxruntime"

    def check(self, subject: Subject) -> None:
        """Refuse language models and 16-bit weights."""
        refuse_method(
            subject,
            "onnx",
            ("head", "probe", "encoder"),
            "its scores need the label tree that Sortal computes; export with --to hf, --to vllm or --to gguf",
        )
        if subject.dtype != "float32":
            raise ConfigError(
                f"--to onnx stores float32 or 8 bits, not {subject.dtype}", "leave out --dtype, or say --int8"
            )
        missing = [name for name in _PACKAGES if find_spec(name) is None]
        if missing:
            raise MissingDependencyError(
                f"--to onnx needs {', '.join(missing)}, which is not installed", "pip install 'sortal[onnx]'"
            )

    def size(self, subject: Subject, parameters: int) -> int:
        """The graph in fp32, and beside it for a while the one in 8 bits."""
        return parameters * (9 if subject.int8 else 4)

    def write(self, subject: Subject, folder: Path) -> None:
        """The graph, the tokenizer, and labels and limits in ``config.json``."""
        network = Answers(read_network(subject), subject.space.task)
        copy_tokenizer(subject.folder, folder)
        tokenizer = read_json(subject.folder / "tokenizer_config.json")
        pad = tokenizer["pad_token"]
        pad = pad["content"] if isinstance(pad, dict) else pad
        write_json(
            folder / ABOUT,
            {
                "labels": list(subject.space.names),
                "task": subject.space.task,
                "max_length": subject.max_length,
                "truncation_side": tokenizer.get("truncation_side", "right"),
                "plain_special_tokens": bool(tokenizer.get("split_special_tokens", False)),
                "pad_token": pad,
                "thresholds": subject.decision.thresholds,
                "abstain_below": subject.decision.abstain_below,
            },
        )
        if not subject.int8:
            trace(network, folder / MODEL)
            return
        with tempfile.TemporaryDirectory(dir=folder) as wide:
            trace(network, Path(wide) / MODEL)
            quantise(Path(wide) / MODEL, folder / MODEL)

    def probabilities(self, subject: Subject, folder: Path, texts: list[str], view: ProgressView) -> Floats:
        """By the program in `notes`, in batches of texts of similar length."""
        from sortal.exporting.onnx_session import OnnxClassifier

        ask = OnnxClassifier(folder)
        found = np.zeros((len(texts), len(subject.space)))
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        view.start("asking the export", len(texts))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            found[rows] = ask([texts[row] for row in rows])
            view.advance(len(rows), 0)
        view.stop()
        return found

    def notes(self, subject: Subject) -> str:
        """The program that the check ran."""
        program = Path(__file__).with_name("onnx_session.py").read_text(encoding="utf-8")
        return (
            "`pip install onnxruntime tokenizers numpy` is all it needs. With this file saved as `onnx_session.py`, "
            '`OnnxClassifier("FOLDER")(["a text", "another"])` gives probabilities:\n\n'
            f"```python\n{program}```\n"
        )

    def facts(self, subject: Subject) -> dict[str, Any]:
        """Names of the graph's inputs and outputs."""
        return {
            "inputs": {"input_ids": "int64 [batch, tokens]", "attention_mask": "int64 [batch, tokens]"},
            "outputs": {
                "logits": "float32 [batch, labels], temperature included",
                "probabilities": "float32",
            },
        }


class Answers(nn.Module):
    """Ids and mask ``[batch, tokens]`` in, logits and probabilities ``[batch, labels]`` out; padding on either side."""

    def __init__(self, network: Network, task: str) -> None:
        super().__init__()
        self.whole, self.body, self.score = network.whole, network.body, network.score
        self.pooling, self.skip, self.task = network.pooling, network.skip, task
        self.causal = network.causal
        self.eval()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and probabilities, fp32."""
        if self.score is None:
            logits = self.whole(input_ids=input_ids, attention_mask=attention_mask).logits
        else:
            logits = self.score(self._pooled(input_ids, attention_mask))
        return logits, logits.sigmoid() if self.task == "multi" else logits.softmax(-1)

    def _pooled(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        places = mask.cumsum(-1)  # 1 at the first real token
        more = {"position_ids": (places - 1).clamp(min=0), "use_cache": False} if self.causal else {}
        states = self.body(input_ids=ids, attention_mask=mask, **more).last_hidden_state
        length = mask.sum(-1, keepdim=True)
        if self.pooling == "last":
            weights = (places == length) & (mask > 0)
        else:
            weights = (places > torch.minimum(torch.full_like(length, self.skip), length - 1)) & (mask > 0)
        weight = weights.to(states.dtype)[..., None]
        return (states * weight).sum(1) / weight.sum(1)  # type: ignore[no-any-return]


def trace(network: Answers, path: Path) -> None:
    """Write ``network`` to ``path`` with dynamic batch and length.

    Raises:
        ModelError: torch cannot trace this architecture.
    """
    ids = torch.arange(4, 18).reshape(2, 7)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    large = sum(p.numel() * p.element_size() for p in network.parameters()) > _LARGEST
    network.body.config.use_cache = False
    try:
        with _hushed(), torch.inference_mode():
            torch.onnx.export(
                network,
                (ids, mask),
                str(path),
                dynamo=True,
                input_names=["input_ids", "attention_mask"],
                output_names=["logits", "probabilities"],
                dynamic_shapes=(shape, shape),
                external_data=large,
                verbose=False,
            )
    except Exception as error:  # the tracer raises whatever the model's code leads to
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{type(network.whole).__name__} cannot be traced to ONNX by torch {torch.__version__} ({reason})",
            "export with --to hf",
        ) from error


def quantise(wide: Path, path: Path) -> None:
    """Weights of matrix products in 8 bits, one scale per output channel; activations are quantised as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _hushed():
        quantize_dynamic(wide, path, weight_type=QuantType.QInt8, per_channel=True)


@contextmanager
def _hushed() -> Iterator[None]:
    """The exporter talks on every channel there is."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
