"""One side's steps in a process of its own: ``python -m benchmarks.speed.train SIDE CASE_FOLDER`` prints them as a line of JSON.

SIDE is ``sortal``, its own training loop on its own network, or ``hf`` (`benchmarks.peers.hf_trainer`).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.case import LORA_ALPHA, LORA_R, PROJECTIONS, Case, read_rows, same_start

Steps = dict[str, Any]
Budget = Callable[[Any], Any]


def sortal(case: Case, folder: Path) -> Steps:
    """Sortal's loop: seconds and losses of its steps."""
    return sortal_steps(case, folder, sortal_network(case))


def sortal_network(case: Case) -> Any:
    """The network of ``sortal train --method head``."""
    from sortal.backbone import loading
    from sortal.methods.head import PROBLEM_TYPE
    from sortal.methods.head_model import tunable

    settings = loading.load_config(case.base)
    settings.num_labels, settings.pad_token_id = case.labels, case.pad_id
    settings.problem_type, settings.use_cache = PROBLEM_TYPE[case.task], False
    torch.manual_seed(case.seed)
    classifier = loading.load_classifier(
        case.base,
        settings,
        dtype=getattr(torch, case.dtype),
        device=torch.device(case.device),
        quantization=case.quantization,
    )
    return tunable(classifier, settings_of(case))


def sortal_steps(case: Case, folder: Path, model: Any, budget: Budget | None = None) -> Steps:
    """Seconds and losses of the steps of a network that may have taken others before; ``budget`` as of `make_loop`."""
    from sortal.training.budget import peak_memory

    clock = Clock(case.device)
    loop = make_loop(case, folder, clock, model, budget)
    clock.losses_of = lambda: loop.progress.loss_since_evaluation
    loop.run()
    loop.optimizer.zero_grad()
    return {
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu_seconds,
        "losses": clock.losses,
        "max_tokens": loop.progress.max_tokens,
        "out_of_memory_retries": loop.progress.out_of_memory_retries,
        "peak_memory_bytes": peak_memory(torch.device(case.device)),
        "linear_weights": linear_weights(loop.model),
    }


def settings_of(case: Case) -> Any:
    """The run's config."""
    from sortal.config import build_config

    return build_config(
        {
            "model": case.base,
            "quantization": case.quantization,
            "batch_size": case.batch_size,
            "epochs": 1,
            "learning_rate": case.learning_rate,
            "head_learning_rate": case.learning_rate,
            "lr_scheduler_type": "constant",
            "warmup_ratio": 0.0,
            "weight_decay": 0.0,
            "lora_r": LORA_R,
            "lora_alpha": LORA_ALPHA,
            "lora_targets": list(PROJECTIONS),
            "seed": case.seed,
            **({} if case.max_tokens is None else {"max_tokens": case.max_tokens}),
        }
    )


def make_loop(case: Case, folder: Path, view: Any, model: Any = None, budget: Budget | None = None) -> Any:
    """The loop of ``sortal train --method head`` on the case's rows, without checkpoints and with a dev evaluation that costs nothing.

    Args:
        budget: tokens of a microbatch for the loop's objective; None takes the rule of thumb.
    """
    from sortal.config import resolve_sizes
    from sortal.training.budget import StepBudget, default_max_tokens
    from sortal.training.distributed import alone
    from sortal.training.loop import Loop
    from sortal.training.losses import Loss
    from sortal.training.objective import Classification
    from sortal.training.signals import StopRequest

    device, config = torch.device(case.device), settings_of(case)
    model = sortal_network(case) if model is None else model
    same_start(model.classifier, folder)
    texts, gold = read_rows(folder)
    targets = torch.from_numpy(gold) if case.task == "single" else torch.from_numpy(gold).float()
    objective = Classification(model, texts, targets, Loss(case.task), device)  # type: ignore[arg-type]
    if budget is None:
        rule = default_max_tokens(model.inner.config, getattr(torch, case.dtype), device)
        chosen = StepBudget(rule)
    else:
        chosen = budget(objective)
    if chosen.checkpointing:
        config = config.model_copy(update={"cuda_graphs": False})
    return Loop(
        model,
        objective,
        lambda: {"metric": 0.0, config.metric_for_best_model: 0.0},
        resolve_sizes(config, len(texts)),
        processes=alone(device),
        max_tokens=chosen.max_tokens,
        store=None,
        stop=StopRequest(),
        view=view,
        say=lambda line: None,
    )


class Clock:
    """A progress view that keeps the seconds, of the clock and of CPU, and the loss of every step."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.losses: list[float] = []
        self.losses_of: Callable[[], list[float]] = list

    def start(self, what: str, total: int, done: int = 0) -> None:
        self._began, self._cpu = self._now(), time.process_time()

    def advance(self, units: int, tokens: int, note: str = "") -> None:
        now, cpu = self._now(), time.process_time()
        self.seconds.append(now - self._began)
        self.cpu_seconds.append(cpu - self._cpu)
        self.losses.append(self.losses_of()[-1])
        self._began, self._cpu = now, cpu

    def stop(self) -> None:
        """Nothing to take away."""

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def linear_weights(model: Any) -> int:
    """N: frozen matrices inside the layers, as the values they stand for."""
    from sortal.backbone.lora import layer_index

    return sum(
        p.quant_state.shape.numel() if hasattr(p, "quant_state") else p.numel()
        for name, p in model.named_parameters()
        if layer_index(name) is not None
        and "lora" not in name
        and (p.dim() in (2, 4) or hasattr(p, "quant_state"))  # 4: in the order of tiles
    )


def hf(case: Case, folder: Path) -> Steps:
    """Trainer: seconds and losses of its steps."""
    return hf_steps(case, folder, hf_network(case))


def hf_network(case: Case) -> Any:
    """A peft model as the libraries' documentation makes it."""
    from benchmarks.peers.hf_trainer import build_model

    return build_model(
        case.base,
        labels=case.labels,
        multi=case.task == "multi",
        pad_id=case.pad_id,
        dtype=case.dtype,
        quantization=case.quantization,
        lora_r=LORA_R,
        lora_alpha=LORA_ALPHA,
        projections=list(PROJECTIONS),
        device=case.device,
    )


def hf_steps(case: Case, folder: Path, model: Any) -> Steps:
    """Seconds and losses of the steps of a peft model that may have taken others before."""
    from benchmarks.peers.hf_trainer import build_trainer
    from benchmarks.peers.step_timer import StepTimer
    from sortal.training.budget import peak_memory

    texts, gold = read_rows(folder)
    answers = gold.tolist() if case.task == "single" else gold.astype("float32").tolist()
    rows = [{"input_ids": texts[i].tolist(), "labels": answers[i]} for i in case.order()]
    same_start(model, folder)
    with tempfile.TemporaryDirectory() as out:
        trainer = build_trainer(
            model,
            rows,
            pad_id=case.pad_id,
            learning_rate=case.learning_rate,
            batch_size=case.batch_size,
            forward_rows=case.peer_rows,
            seed=case.seed,
            output_dir=out,
            bf16=case.device == "cuda" and case.dtype == "bfloat16",
        )
        timer = StepTimer()
        trainer.add_callback(timer)
        try:
            trainer.train()
        finally:  # a second Trainer would wrap forward again
            trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
            model.zero_grad()
    parts = case.batch_size // case.peer_rows
    losses = trainer.batch_losses
    return {
        "seconds": timer.seconds,
        "cpu_seconds": timer.cpu_seconds,
        "losses": [sum(losses[i : i + parts]) / parts for i in range(0, len(losses), parts)],
        "peak_memory_bytes": peak_memory(torch.device(case.device)),
    }


def counted(case: Case, folder: Path, side: str) -> Steps:
    """Real tokens of every step, and those that ``side`` computes."""
    lengths = read_rows(folder)[0].lengths[case.order()].reshape(case.steps, case.batch_size)
    forward = lengths.reshape(case.steps, -1, case.peer_rows)  # of the peer, padded to its longest row
    computed = forward.max(2).sum(1) * case.peer_rows if side == "hf" else lengths.sum(1)
    return {"tokens": lengths.sum(1).tolist(), "computed": computed.tolist(), "torch": torch.__version__}


SIDES = {"sortal": sortal, "hf": hf}


def main() -> None:
    side, folder = sys.argv[1], Path(sys.argv[2])
    case = Case.read(folder)
    found = SIDES[side](case, folder)
    print(json.dumps({**found, **counted(case, folder, side), "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
