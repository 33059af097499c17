"""The training loop on a toy network, and what watches or stops it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from sortal.backbone.encoding import EncodedTexts
from sortal.backbone.packing import Pack
from sortal.config import ResolvedConfig, build_config, resolve_sizes
from sortal.training.distributed import Processes
from sortal.training.loop import Loop
from sortal.training.losses import Loss
from sortal.training.objective import Classification
from sortal.training.progress import NoProgress
from sortal.training.signals import StopRequest

ALONE = Processes(0, 1, torch.device("cpu"))
LENGTHS = (3, 9, 1, 4, 4, 7, 2, 12, 5, 6, 1)  # 11 examples, 54 tokens


class Toy(nn.Module):
    """Reads the final token and the mean of each example, so that a wrong cut shows."""

    def __init__(self, labels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(20, 8)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.score = nn.Linear(8, labels, bias=False)

    def forward(self, rows: Pack) -> torch.Tensor:
        states = self.frozen(self.embedding(rows.input_ids[0])).tanh()
        ends = rows.cu_seqlens.tolist()
        means = torch.stack([states[a:b].mean(0) for a, b in pairwise(ends)])
        logits: torch.Tensor = self.score(means + states[rows.last])
        return logits


def texts(lengths: tuple[int, ...] = LENGTHS) -> EncodedTexts:
    """Random texts of these lengths, the same every time."""
    rng = np.random.default_rng(0)
    flat = rng.integers(0, 20, sum(lengths)).astype(np.int32)
    return EncodedTexts(flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), 0)


def targets(task: str) -> torch.Tensor:
    """Labels of `texts`: int64 ``[n]``, or fp32 ``[n, 3]`` for a multi-label task."""
    rng = np.random.default_rng(1)
    if task == "single":
        return torch.from_numpy(rng.integers(0, 3, len(LENGTHS)))
    return torch.from_numpy(rng.integers(0, 2, (len(LENGTHS), 3))).float()


def configured(**values: Any) -> ResolvedConfig:
    defaults = {"batch_size": 4, "epochs": 2, "early_stopping_patience": 99, "save_minutes": 1e9}
    return resolve_sizes(build_config({**defaults, **values}), len(LENGTHS))


def make_loop(
    model: nn.Module | None = None,
    *,
    metrics: Callable[[], float] = lambda: 0.5,
    task: str = "single",
    loss: Loss | None = None,
    max_tokens: int = 1000,
    config_max_tokens: int | None = None,
    **more: Any,
) -> Loop:
    """A loop over the toy data; ``more`` goes to the loop where it knows the name, else to the config."""
    known = ("processes", "store", "stop", "view", "say", "on_log", "margin")
    arguments: dict[str, Any] = {
        "processes": ALONE,
        "store": None,
        "stop": StopRequest(),
        "view": NoProgress(),
        "say": lambda line: None,
    } | {key: more.pop(key) for key in known if key in more}

    def evaluate() -> dict[str, float]:
        value = metrics()
        return {"f1_macro": value, "metric": value}

    network = model or Toy()
    chosen = loss or Loss(task)  # type: ignore[arg-type]
    return Loop(
        network,
        Classification(network, texts(), targets(task), chosen, ALONE.device),
        evaluate,
        configured(max_tokens=config_max_tokens, **more),
        max_tokens=max_tokens,
        **arguments,
    )


def sequence(*values: float) -> Callable[[], float]:
    """What evaluations find, one after another; the next one fails."""
    stream = iter(values)
    return lambda: next(stream)


class Watched(NoProgress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.started: list[tuple[int, int]] = []
        self.tokens: list[int] = []
        self.stopped = 0

    def start(self, what: str, total: int, done: int = 0) -> None:
        self.started.append((total, done))

    def advance(self, units: int, tokens: int, note: str = "") -> None:
        self.tokens.append(tokens)
        self.note = note

    def stop(self) -> None:
        self.stopped += 1


def stopping_at(step: int, stop: StopRequest) -> NoProgress:
    """A view during whose ``step``-th advance the user presses Ctrl-C."""

    class View(NoProgress):
        steps = 0

        def advance(self, units: int, tokens: int, note: str = "") -> None:
            self.steps += 1
            if self.steps == step:
                stop.signal_number = 2

    return View()
