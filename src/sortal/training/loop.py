"""The training loop: exact steps, whatever the hardware cuts them into.

An optimiser step is a set of examples; microbatches are a memory decision. The loop knows an objective and a dev evaluation, and
nothing about methods.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sortal.backbone.lora import trainable, training_mode
from sortal.backbone.packing import microbatches
from sortal.config import ResolvedConfig, RunConfig
from sortal.errors import CheckpointError, Interrupted, ResourceError, TrainingDivergedError
from sortal.training.budget import is_out_of_memory
from sortal.training.checkpoints import CheckpointStore
from sortal.training.distributed import Processes
from sortal.training.graphs import StepGraphs, most_tokens
from sortal.training.objective import Classification, Objective
from sortal.training.optimizer_state import flatten_optimizer, restore_optimizer
from sortal.training.order import epoch_order
from sortal.training.progress import ProgressView
from sortal.training.random_state import restore_rng, rng_tensors
from sortal.training.schedule import factor
from sortal.training.signals import StopAsked, StopRequest

Say = Callable[[str], None]


@dataclass
class Progress:
    """Everything of the loop's state that is not a tensor; saved as JSON with every checkpoint."""

    step: int = 0
    tokens: int = 0
    train_seconds: float = 0.0
    max_tokens: int = 0
    max_tokens_asked: int | None = None
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    out_of_memory_retries: int = 0
    best_metric: float | None = None
    best_step: int = 0
    evaluations_without_gain: int = 0
    finished: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    loss_since_evaluation: list[float] = field(default_factory=list)


class Loop:
    """Trains ``model`` in place; ``run`` returns when done.

    With ``early_stopping_patience`` training stops after so many evaluations without a gain, and the best weights are restored.
    Without, it goes on to the end, and the last weights are kept unless an earlier dev figure is higher by more than ``margin``.

    Args:
        evaluate: dev figures of the current weights, with the key ``metric`` (higher is better). May raise `StopAsked`;
            the evaluation is then made up for after resuming.
        store: where checkpoints go; None keeps nothing.
        margin: see above.
        stop: in force while `run` is at work.
        on_log: receives ``(step, figures)`` for TensorBoard and the like.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        evaluate: Callable[[], dict[str, float]],
        config: ResolvedConfig,
        *,
        processes: Processes,
        max_tokens: int,
        store: CheckpointStore | None,
        stop: StopRequest,
        view: ProgressView,
        say: Say,
        on_log: Callable[[int, dict[str, float]], None] = lambda step, figures: None,
        margin: float = 0.0,
    ) -> None:
        self.model, self.objective, self.evaluate, self.config = model, objective, evaluate, config
        self.processes, self.store, self.stop, self.view, self.say, self.on_log = (
            processes,
            store,
            stop,
            view,
            say,
            on_log,
        )
        self.margin = margin
        self.parameters = trainable(model)
        self.optimizer = make_optimizer(self.parameters, config)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.steps_per_epoch = math.ceil(len(objective.lengths) / config.batch_size)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.progress = Progress(max_tokens=max_tokens, max_tokens_asked=config.max_tokens)
        self.best: dict[str, torch.Tensor] = {}
        self.graphs = self._make_graphs()
        self._microbatches = 0
        self._position = 0

    def run(self) -> Progress:
        """Train to the end, or raise `Interrupted` after a checkpoint when a stop was requested.

        Raises:
            Interrupted: SIGINT or SIGTERM. TrainingDivergedError: by the NaN policy. ResourceError: one example does not fit.
        """
        state, saved_at = self.progress, time.monotonic()
        order = np.zeros(0, np.int64)
        try:
            with self.stop:
                self.view.start("training", self.total_steps, state.step)
                training_mode(self.model, True)
                while True:
                    self._position = self._place_in_schedule()
                    if self._evaluation_due():
                        self._evaluate()
                        self.save()
                        saved_at = time.monotonic()
                    if self.processes.any(self.stop.requested):
                        self._interrupted()
                    if state.finished or self._over:
                        break
                    inside = state.step % self.steps_per_epoch
                    if inside == 0 or len(order) == 0:
                        order = self._epoch_order(state.step // self.steps_per_epoch)
                    self._step(order[inside * self.config.batch_size : (inside + 1) * self.config.batch_size])
                    minutes = (time.monotonic() - saved_at) / 60
                    if self.store is not None and minutes > self.config.save_minutes:
                        self.save()
                        saved_at = time.monotonic()
        finally:
            self.view.stop()
        if self._over and state.step < self.total_steps:
            self.say(
                f"max_minutes {self.config.max_minutes:g} is used up after {state.step:,} of {self.total_steps:,} steps"
            )
        self._choose()
        training_mode(self.model, False)
        return state

    # one step

    def _make_graphs(self) -> StepGraphs | None:
        objective, config = self.objective, self.config
        if not (config.cuda_graphs and isinstance(objective, Classification) and objective.fixed_shapes):
            return None
        if config.shard_base:
            return None
        most = most_tokens(self.model)
        return StepGraphs(objective, list(self.parameters.values()), config.batch_size, self.say, most)

    def _step(self, batch: npt.NDArray[np.int64]) -> None:
        state, began = self.progress, time.monotonic()
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            warmup = math.ceil(self.config.warmup_ratio * self.total_steps)
            group["lr"] = peak * factor(
                self._position, self.total_steps, warmup, self.config.lr_scheduler_type
            )
        value = self._accumulate(batch)
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        self.processes.sum_([*gradients, value])
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.config.max_grad_norm, foreach=True)
        figures = torch.stack(
            [value, norm.to(value.device)]
        ).tolist()  # the one device-to-host sync of a step
        if all(math.isfinite(f) for f in figures):
            self.optimizer.step()
            state.skipped_in_a_row = 0
            state.loss_since_evaluation.append(figures[0])
        else:
            self._skip(figures)
        state.step += 1
        tokens = int(self.objective.lengths[batch].sum()) + self.objective.shared_tokens * self._microbatches
        state.tokens += tokens
        state.train_seconds += time.monotonic() - began
        recent = state.loss_since_evaluation[-20:]
        note = f"loss {sum(recent) / len(recent):.3f}" if recent else ""
        if state.best_metric is not None:
            note += f"  dev {self.config.metric_for_best_model} {state.history[-1][self.config.metric_for_best_model]:.3f}"
        self.view.advance(1, tokens, note)

    def _accumulate(self, batch: npt.NDArray[np.int64]) -> torch.Tensor:
        """Gradients of the step's mean loss; on lack of memory the same examples are redone in smaller microbatches."""
        self.objective.prepare(batch, self.progress.step)
        while True:
            self.optimizer.zero_grad(set_to_none=self.graphs is None)
            value = torch.zeros((), device=self.processes.device)
            mine = self.processes.share(batch)
            cut = list(microbatches(self.objective.lengths[mine].tolist(), self.progress.max_tokens))
            self._microbatches = len(cut)
            part: list[int] = []
            try:
                # Gathering a slice takes all processes in step, so all run as many microbatches.
                idle = self.processes.largest(len(cut)) - len(cut) if self.config.shard_base else 0
                for part in cut:
                    value += self._microbatch(mine[part], 1 / len(batch))
                for _ in range(idle):
                    self._microbatch(batch[:1], 0.0)
                for parameter in self.parameters.values():  # every process contributes to every sum
                    if parameter.grad is None:
                        parameter.grad = torch.zeros_like(parameter)
                return value
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failed = self.objective.lengths[mine[part]]
            if self.graphs is not None and self.graphs.give_up(self.progress.max_tokens):
                torch.cuda.empty_cache()
            else:
                self._halve(failed)

    def _microbatch(self, rows: npt.NDArray[np.int64], weight: float) -> torch.Tensor:
        value = None if self.graphs is None else self.graphs.backward(rows, weight)
        if value is None:
            value = self.objective.losses(rows).sum() * weight
            value.backward()
        return value.detach()

    def _halve(self, failed: npt.NDArray[np.int64]) -> None:
        # Gradients of a failed backward are partly added up: the caller drops them all and redoes the step.
        if self.config.shard_base:
            raise ResourceError(
                "out of memory, and processes that share a base cannot redo a step alone",
                f"lower max_tokens (now {self.progress.max_tokens})",
            )
        if len(failed) == 1:
            raise ResourceError(
                f"out of memory on a single example of {failed[0]} tokens",
                "lower max_length, adapt fewer layers (lora_top_layers), use quantization nf4 on a GPU, or a smaller model",
            )
        self.progress.out_of_memory_retries += 1
        self.progress.max_tokens = max(int(failed.sum()) // 2, 1)
        if self.processes.device.type == "cuda":
            torch.cuda.empty_cache()
        self.say(
            f"out of memory: microbatches are now at most {self.progress.max_tokens} tokens; the step's examples are redone"
        )

    def _skip(self, figures: list[float]) -> None:
        state = self.progress
        state.skipped_steps += 1
        state.skipped_in_a_row += 1
        what = f"step {state.step + 1}: loss {figures[0]:g}, gradient norm {figures[1]:g}"
        if self.config.nan_policy == "stop" or state.skipped_in_a_row > self.config.max_nan_steps:
            raise TrainingDivergedError(
                what,
                "lower learning_rate, or set dtype float32",
                {"steps": state.step, "skipped_steps": state.skipped_steps},
            )
        self.say(f"{what}: skipped, weights unchanged")

    # between steps

    def _place_in_schedule(self) -> int:
        """The step, or with a time budget the share of it that is used up, in steps; the same in every process."""
        state, minutes = self.progress, self.config.max_minutes
        if minutes is None:
            return state.step
        used = int(self.total_steps * min(state.train_seconds / (60 * minutes), 1.0))
        return self.processes.largest(max(state.step, used))

    @property
    def _over(self) -> bool:
        return self._position >= self.total_steps

    def _epoch_order(self, epoch: int) -> npt.NDArray[np.int64]:
        return epoch_order(len(self.objective.lengths), self.config.seed, epoch)

    def _evaluation_due(self) -> bool:
        """At the end of an epoch and at even distances inside it, unless this step was evaluated already."""
        state, inside = self.progress, self.progress.step % self.steps_per_epoch
        every = math.ceil(self.steps_per_epoch / self.config.eval_per_epoch)
        evaluated = int(state.history[-1]["step"]) if state.history else 0
        return state.step > evaluated and (inside % every == 0 or self._over)

    def _evaluate(self) -> None:
        state = self.progress
        training_mode(self.model, False)
        try:
            figures = self.evaluate()
        except StopAsked:
            self._interrupted()
        training_mode(self.model, True)
        losses = state.loss_since_evaluation
        entry = {"step": float(state.step), "epoch": state.step / self.steps_per_epoch, **figures}
        entry["train_loss"] = sum(losses) / len(losses) if losses else float("nan")
        state.history.append(entry)
        state.loss_since_evaluation = []
        if state.best_metric is None or figures["metric"] > state.best_metric:
            state.best_metric, state.best_step, state.evaluations_without_gain = (
                figures["metric"],
                state.step,
                0,
            )
            self.best = {name: p.detach().to("cpu", copy=True) for name, p in self.parameters.items()}
        else:
            state.evaluations_without_gain += 1
            patience = self.config.early_stopping_patience
            state.finished = patience is not None and state.evaluations_without_gain >= patience
        shown = "  ".join(f"{k} {v:.4f}" for k, v in figures.items() if k != "metric")
        speed = state.tokens / max(state.train_seconds, 1e-9)
        self.say(
            f"epoch {entry['epoch']:.4g}  train loss {entry['train_loss']:.4f}  dev {shown}  ({speed:,.0f} real tokens/s)"
        )
        if state.finished:
            self.say(
                f"no gain in {state.evaluations_without_gain} evaluations: stopping early, best was step {state.best_step}"
            )
        self.on_log(state.step, {**entry, "tokens_per_second": speed})

    def _choose(self) -> None:
        """Leave the model with the weights that are kept."""
        state = self.progress
        if self.config.early_stopping_patience is None and state.best_metric is not None:
            last = state.history[-1]
            if state.best_metric - last["metric"] <= self.margin:
                state.best_metric, state.best_step = last["metric"], int(last["step"])
                return
            best = next(entry for entry in state.history if entry["step"] == state.best_step)
            metric = self.config.metric_for_best_model
            self.say(
                f"the weights of epoch {best['epoch']:.4g} are kept: its dev {metric} was {best[metric]:.4f}, the last epoch's {last[metric]:.4f}"
            )
        with torch.no_grad():
            for name, value in self.best.items():
                self.parameters[name].copy_(value)

    # checkpoints

    def save(self) -> None:
        """Write a complete checkpoint (main process only)."""
        if self.store is None or not self.processes.main:
            return
        tensors, description = flatten_optimizer(self.optimizer, self.parameters)
        tensors |= {f"model/{name}": p.detach() for name, p in self.parameters.items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        tensors |= rng_tensors()
        self.store.save(
            self.progress.step, tensors, {"progress": asdict(self.progress), "optimizer": description}
        )

    def resume(self) -> bool:
        """Continue from the newest complete checkpoint; False when there is none.

        Raises:
            CheckpointError: checkpoints exist but none can be used.
        """
        found = self.store.latest(self.say) if self.store is not None else None
        if found is None:
            return False
        tensors, state = found.load()
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                saved = tensors.get(f"model/{name}")
                if saved is None or saved.shape != parameter.shape:
                    raise CheckpointError(
                        f"{found.path} holds no weights that fit {name}",
                        "resume with the settings of the run that wrote it",
                    )
                parameter.copy_(saved)
        restore_optimizer(self.optimizer, self.parameters, tensors, state["optimizer"])
        restore_rng(tensors)
        self.best = {name: tensors[f"best/{name}"] for name in self.parameters if f"best/{name}" in tensors}
        fresh, self.progress = self.progress, Progress(**state["progress"])
        # The saved budget keeps a resumed run identical, unless the user gave another one, say after a kill for memory.
        if fresh.max_tokens_asked not in (None, self.progress.max_tokens_asked):
            self.progress.max_tokens = fresh.max_tokens
            self.progress.max_tokens_asked = fresh.max_tokens_asked
        self.say(f"resuming at step {self.progress.step} of {self.total_steps}")
        return True

    def _interrupted(self) -> NoReturn:
        self.view.stop()
        self.save()
        number = self.stop.signal_number or 15
        what = f"stopped by {'SIGINT' if number == 2 else 'SIGTERM'} after step {self.progress.step} of {self.total_steps}"
        raise Interrupted(what, "a checkpoint is written; continue with --resume", number)


def make_optimizer(parameters: dict[str, nn.Parameter], config: RunConfig) -> torch.optim.Optimizer:
    """AdamW with one group for the adapters and one, with its own learning rate, for ``score`` where there is one."""
    head = [p for name, p in parameters.items() if ".score." in name or name.startswith("score.")]
    rest = [p for name, p in parameters.items() if not (".score." in name or name.startswith("score."))]
    groups: list[dict[str, Any]] = [{"params": rest, "lr": config.learning_rate}] if rest else []
    if head:
        groups.append({"params": head, "lr": config.head_learning_rate})
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
