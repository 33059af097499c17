"""Seconds and losses of the steps of a transformers Trainer."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import TrainerCallback


class StepTimer(TrainerCallback):
    """Seconds of the clock and of CPU, and loss, of every optimiser step; add it with ``trainer.add_callback``.

    A step lasts from the end of the one before, so collation counts; the first also holds the loop's start.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.losses: list[float] = []
        self._began = self._cpu = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.restart()

    def restart(self) -> None:
        """Start the clock of the next step now, after work that is not the peer's."""
        self._began, self._cpu = _now(), time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        ended, cpu = _now(), time.process_time()
        self.seconds.append(ended - self._began)
        self.cpu_seconds.append(cpu - self._cpu)
        self._began, self._cpu = ended, cpu

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        if logs and "loss" in logs:  # the summary at the end has "train_loss" instead
            self.losses.append(float(logs["loss"]))


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
