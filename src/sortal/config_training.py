"""The settings of a run about its training; `sortal.config.RunConfig` holds them with the others."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from sortal.config_sections import Metric, Section


class TrainConfig(Section):
    """Optimisation, stopping and safety."""

    epochs: int | None = Field(
        None,
        ge=0,
        description="passes over the training rows; default: as many as give 350 steps, from 3 (encoder: 5) to 20; 0 measures the untrained model",
    )
    max_minutes: PositiveFloat | None = Field(
        None,
        description="end training after so many minutes in optimiser steps, the learning rate having fallen by then; the result depends on how fast the machine is",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="examples per optimiser step, whatever the hardware; default: 8 below 500 training rows, 16 below 5,000, else 32",
    )
    max_tokens: int | None = Field(
        None,
        ge=16,
        description="token budget of one microbatch: bounds memory and changes nothing but rounding; default: from device memory",
    )
    gradient_checkpointing: Literal["auto", "always", "never"] = Field(
        "auto",
        description="drop the activations of all layers but one and compute them again in backward: a fraction of the memory for a third more time; auto: where a microbatch would not fit otherwise",
    )
    cuda_graphs: bool = Field(
        True,
        description="head on a GPU: record the kernels of every pack size once and replay them, where launching them one by one takes longer than they do (small models, short texts); takes memory for a second microbatch",
    )
    learning_rate: float = Field(
        2e-3,
        gt=0,
        description="peak learning rate of the adapters; default of an encoder: 5e-4 (lora), 5e-5 (full)",
    )
    head_learning_rate: float = Field(
        2e-3, gt=0, description="peak learning rate of the score head; default of a fully tuned encoder: 1e-3"
    )
    weight_decay: float = Field(
        0.01, ge=0, description="decay of the trained weights towards 0 at every step, against overfitting"
    )
    warmup_ratio: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="share of the steps with a rising learning rate; default of a fully tuned encoder: 0.1",
    )
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="how it falls then; default of a fully tuned encoder: linear"
    )
    max_grad_norm: float = Field(
        1.0,
        gt=0,
        description="gradients of a larger norm are scaled down to it, so that one odd step does no harm",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the target that is spread over all labels; on Reuters (90 rare topics) 0.1 cost three points of micro-F1",
    )
    loss: Literal["auto", "focal", "asymmetric"] = Field(
        "auto",
        description="auto: cross-entropy, or BCE-with-logits for multi-label; focal: rows that are already right count less; asymmetric: multi-label, easy noes count less than easy yeses. Both shift probabilities, so they are recalibrated on dev",
    )
    focal_gamma: float = Field(
        2.0, ge=0, description="how much less: the loss is multiplied by (1 - p of the right answer) ** gamma"
    )
    class_weight: Literal["none", "balanced"] | dict[str, NonNegativeFloat] = Field(
        "none",
        description="weight of each label in the loss; balanced: as if all were equally frequent, which lifts rare labels at the cost of frequent ones and shifts probabilities, so they are recalibrated on dev",
    )
    pos_weight: Literal["none", "balanced"] | PositiveFloat | dict[str, PositiveFloat] = Field(
        "none",
        description="multi-label: weight of a label's positive rows; balanced: negatives per positive, which trades precision for recall; probabilities are recalibrated on dev",
    )
    early_stopping_patience: int | None = Field(
        None,
        ge=1,
        description="dev evaluations without a gain before training stops; the best weights are restored; default: no early stop, and the last weights, unless an earlier epoch's dev figure is higher by more than a standard error: 0.5 / √(dev rows)",
    )
    metric_for_best_model: Metric = Field(
        "f1_macro",
        description="dev figure that decides what is kept (weights, layer, C): f1_macro counts every label alike, f1_micro and accuracy every row, loss looks at probabilities",
    )
    eval_per_epoch: int = Field(
        1,
        ge=1,
        description="dev evaluations per epoch: more find the best weights more exactly and take time",
    )
    save_minutes: float = Field(
        5.0,
        ge=0,
        description="minutes between checkpoints inside an epoch (one is written at every evaluation too)",
    )
    save_total_limit: int = Field(2, ge=1, description="complete checkpoints kept; older ones are deleted")
    nan_policy: Literal["skip", "stop"] = Field(
        "skip", description="skip a step with a NaN or infinite loss or gradient, or stop"
    )
    max_nan_steps: int = Field(10, ge=0, description="stop anyway after this many skipped steps in a row")
    seed: int = Field(0, ge=0, lt=2**32, description="of adapters, order of rows, split and bootstrap")
    threads: int | None = Field(None, ge=1, description="CPU threads; default: one per core")
