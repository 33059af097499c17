"""What both sides of a comparison train on: the same token ids, labels, order and starting weights, in one folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sortal.backbone.encoding import EncodedTexts

LORA_R, LORA_ALPHA = 8, 16
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Case:
    """One comparison.

    base: folder of the pretrained model. task: single or multi. max_length: no row has more tokens. peer_rows: rows of one forward of the
    peer, its ``per_device_train_batch_size``; steps of more rows are accumulated. steps: the first ``warmup`` of them are not reported but for their seconds.
    max_tokens: of a microbatch of Sortal, as a user asks for it; None lets it choose. memory: bytes of the card that Sortal may think it has.
    """

    name: str
    base: str
    labels: int
    task: str
    pad_id: int
    max_length: int
    template: str
    batch_size: int = 32
    peer_rows: int = 32
    steps: int = 4
    warmup: int = 1
    learning_rate: float = 2e-4
    seed: int = 0
    device: str = "cpu"
    dtype: str = "bfloat16"
    quantization: str = "none"
    max_tokens: int | None = None
    memory: int | None = None

    def write(self, folder: Path, texts: EncodedTexts, gold: np.ndarray[Any, Any]) -> None:
        """Settings and the rows of all steps; ``gold`` is int64 ``[n]`` or 0/1 ``[n, labels]``."""
        if len(texts) != self.batch_size * self.steps:
            raise ValueError(
                f"{self.steps} steps of {self.batch_size} rows need {self.batch_size * self.steps}, not {len(texts)}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "rows.npz", flat=np.array(texts.flat), offsets=texts.offsets, gold=gold)
        (folder / "case.json").write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Case:
        return cls(**json.loads((folder / "case.json").read_text()))

    def told(self) -> dict[str, Any]:
        """Everything but where files are on this machine."""
        return {key: value for key, value in asdict(self).items() if key != "base"}

    def order(self) -> np.ndarray[Any, Any]:
        """The rows in the order in which Sortal's loop takes them in its first epoch."""
        return np.random.default_rng([self.seed, 0]).permutation(self.batch_size * self.steps)


def read_rows(folder: Path) -> tuple[EncodedTexts, np.ndarray[Any, Any]]:
    found = np.load(folder / "rows.npz")
    return EncodedTexts(found["flat"], found["offsets"], 0), found["gold"]


def same_start(peft_model: Any, folder: Path) -> None:
    """Give adapters and score the values that the first side to come here had, rounded to bf16: a score kept in bf16 starts where one in fp32 does."""
    import torch
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file, save_file

    path = folder / "start.safetensors"
    if not path.exists():
        state = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
        save_file(
            {name: value.detach().to("cpu", torch.bfloat16).contiguous() for name, value in state.items()},
            path,
        )
    set_peft_model_state_dict(peft_model, load_file(path))
