"""The settings of a run: one pydantic model for flags, YAML, Python and ``sortal config schema``.

Names follow transformers and peft (``learning_rate``, ``lora_r``, ``max_length`` …). ``extra="forbid"``
plus `build_config` turn a misspelt key into an error that names the nearest real one.
"""

from __future__ import annotations

import difflib
import math
from datetime import date
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sortal.errors import ConfigError
from sortal.method_defaults import DECODER, ENCODER, default_model, least_epochs, with_method_defaults
from sortal.prompting.template import check_source

Task = Literal["auto", "single", "multi"]
Truncation = Literal["head", "tail", "head+tail"]
Metric = Literal["f1_macro", "f1_micro", "accuracy", "loss"]
BASELINES = frozenset(("tfidf", "majority"))  # methods without a pretrained model
FOR_BASELINES = frozenset(("metric_for_best_model", "seed", "threads"))  # of the settings of training

# Settings that are names, paths or templates, and those that are lists of them.
TEXTS = frozenset(
    (
        "data",
        "dev",
        "test",
        "text_template",
        "label",
        "label_delimiter",
        "id",
        "group",
        "model",
        "template",
        "verbalizer",
        "out",
    )
)
LISTS = frozenset(("text", "label_columns", "lora_targets"))


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class DataConfig(_Section):
    """Where the rows are and how they become texts and labels."""

    data: str = Field(
        "", description="training data: a file (csv, tsv, jsonl, json, parquet, arrow), a folder or a hub id"
    )
    dev: str | None = Field(
        None, description="development file; default: a stratified part of the training rows"
    )
    test: str | None = Field(None, description="test file; default: a stratified part of the training rows")
    text: tuple[str, ...] = Field((), description="text column(s); default: found by name")
    text_template: str | None = Field(
        None,
        description="how several text columns are joined, e.g. '{title}\\n{body}'; default: non-empty values, one per line",
    )
    label: str | None = Field(None, description="label column; default: found by name")
    label_columns: tuple[str, ...] = Field((), description="wide 0/1 columns, one per label (multi-label)")
    label_delimiter: str | None = Field(
        None, description="separator of several labels in one cell (multi-label)"
    )
    id: str | None = Field(None, description="column with a row id; default: the row number")
    group: str | None = Field(None, description="rows with the same value stay in one split")
    task: Task = Field("auto", description="single-label, multi-label, or inferred from the labels")
    dev_size: float = Field(0.1, gt=0, lt=1, description="share of rows for dev when no dev file is given")
    test_size: float = Field(
        0.15, gt=0, lt=1, description="share of rows for test when no test file is given"
    )
    split_seed: int | None = Field(
        None, ge=0, lt=2**32, description="seed of the split and of max_train_rows; default: the run's seed"
    )
    max_train_rows: int | None = Field(
        None, gt=0, description="train on a seeded random sample of this many rows"
    )


class ModelConfig(_Section):
    """The pretrained model and how text enters and leaves it."""

    model: str | None = Field(
        None,
        description=f"registry name, folder, GGUF file, pypi:NAME or hub id[@revision]; default: {DECODER}, for method encoder {ENCODER}",
    )
    quantization: Literal["none", "nf4"] = Field(
        "none", description="4-bit NF4 base with double quantisation"
    )
    nf4_backend: Literal["auto", "bitsandbytes"] = Field(
        "auto",
        description="on CPU, auto de-quantises once to bf16 (fast, same values); bitsandbytes keeps 4-bit layers",
    )
    shard_base: bool = Field(
        False, description="spread the frozen base over the processes, for models one GPU cannot hold"
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="compute type; auto: bfloat16 where the device is fast at it"
    )
    template: str = Field(
        "auto",
        description="head: 'summary' (auto), 'eos' (the paper's form); instruct: 'classify' (auto), 'paper'; or your own text with one {text} in it",
    )
    max_length: int | None = Field(
        None,
        ge=8,
        description="tokens per example, template included; default: 256 (head, encoder), the prompt and 256 of text (instruct)",
    )
    truncation: Truncation = Field("head", description="which part of a too long text is kept")
    trust_remote_code: bool = Field(False, description="run Python code shipped with a hub model (dangerous)")


class LoraConfig(_Section):
    """Low-rank adapters on the base model's linear layers."""

    lora_r: int = Field(8, ge=1, description="rank")
    lora_alpha: int = Field(16, ge=1, description="scale numerator: updates are multiplied by alpha / r")
    lora_dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout on the adapter input; above 0 the fused kernel is off"
    )
    lora_targets: tuple[str, ...] = Field(
        (), description="module names; default: every linear projection of the decoder"
    )
    lora_top_layers: int | None = Field(None, ge=1, description="adapt only the top k layers; default: all")


class EncoderConfig(_Section):
    """Method encoder: which weights are trained, and how a text's states become one."""

    tuning: Literal["full", "lora"] = Field(
        "full", description="all weights, or LoRA adapters that are merged when training ends"
    )
    pooling: Literal["auto", "own", "mean"] = Field(
        "auto",
        description="own: the head its family has in transformers (BERT, RoBERTa: on the first token); mean: a linear layer on the mean of the tokens' states; auto: mean for sentence-transformers models, else own",
    )
    encoder_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="all dropouts of the encoder while it is trained; above 0 the masks depend on how a step is cut into microbatches",
    )


class InstructConfig(_Section):
    """Method instruct: how the model is asked and how it answers."""

    prompt_format: Literal["auto", "chat", "plain"] = Field(
        "auto", description="inside the model's chat format, or plain; auto: chat where the model has one"
    )
    verbalizer: str = Field(
        "words",
        description="how labels are worded: 'words' (underscores become spaces), 'label' (as they are), 'codes' (one token each), or a CSV / JSON file with label, wording, description",
    )
    answer: Literal["auto", "list", "each"] = Field(
        "auto",
        description="multi-label: 'list' (the labels one after another) or 'each' (yes or no for every label); auto: each",
    )
    negatives: int = Field(
        16,
        ge=1,
        description="answer each: labels without a yes that a training row is asked about, drawn anew for every step and weighted to stand for all",
    )
    shots: int = Field(0, ge=0, description="training rows per label shown in the prompt as examples")
    shortlist: int | None = Field(
        None, ge=2, description="list and score only the K labels per text that a TF-IDF classifier proposes"
    )
    shuffle_labels: bool = Field(False, description="list the labels in a new order at every training step")
    listed_labels: int | None = Field(
        None, ge=2, description="list so many labels at a training step: those of its rows, and random others"
    )
    score_tolerance: float | None = Field(
        None,
        ge=0,
        lt=0.1,
        description="share of the answers' probability that may be left unopened in their tree; 0 computes every answer; default: 1e-5, or 1e-3 in bfloat16, whose own rounding is larger",
    )
    length_normalization: bool = Field(
        False, description="divide an answer's log-probability by its number of tokens"
    )
    prior_correction: bool = Field(
        False, description="subtract the score that each label gets for an empty text"
    )


class TrainConfig(_Section):
    """Optimisation, stopping and safety."""

    epochs: int | None = Field(
        None,
        ge=0,
        description="passes over the training rows; default: 3 (encoder: 5), more for small data (see resolve_sizes)",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="examples per optimiser step, whatever the hardware; default: 32, less for small data",
    )
    max_tokens: int | None = Field(
        None, ge=16, description="token budget of one microbatch; default: from device memory"
    )
    learning_rate: float = Field(
        5e-4, gt=0, description="peak learning rate of the adapters; default of a fully tuned encoder: 5e-5"
    )
    head_learning_rate: float = Field(
        2e-3, gt=0, description="peak learning rate of the score head; default of a fully tuned encoder: 1e-3"
    )
    weight_decay: float = Field(0.01, ge=0)
    warmup_ratio: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="share of the steps with a rising learning rate; default of a fully tuned encoder: 0.1",
    )
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="how it falls then; default of a fully tuned encoder: linear"
    )
    max_grad_norm: float = Field(1.0, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    loss: Literal["auto", "focal"] = Field(
        "auto", description="auto: cross-entropy, or BCE-with-logits for multi-label"
    )
    focal_gamma: float = Field(2.0, ge=0)
    class_weight: Literal["none", "balanced"] | dict[str, NonNegativeFloat] = Field(
        "none", description="per-label loss weight; shifts probabilities, so calibration is refitted"
    )
    pos_weight: Literal["none", "balanced"] | PositiveFloat | dict[str, PositiveFloat] = Field(
        "none", description="multi-label: weight of positive examples per label"
    )
    early_stopping_patience: int = Field(
        2, ge=1, description="evaluations without improvement before stopping"
    )
    metric_for_best_model: Metric = "f1_macro"
    eval_per_epoch: int = Field(1, ge=1, description="dev evaluations per epoch")
    save_minutes: float = Field(
        5.0,
        ge=0,
        description="minutes between checkpoints inside an epoch (one is written at every evaluation too)",
    )
    save_total_limit: int = Field(2, ge=1, description="complete checkpoints kept")
    nan_policy: Literal["skip", "stop"] = Field(
        "skip", description="skip a step with a NaN or infinite loss or gradient, or stop"
    )
    max_nan_steps: int = Field(10, ge=0, description="stop anyway after this many skipped steps in a row")
    seed: int = Field(0, ge=0, lt=2**32)
    threads: int | None = Field(None, ge=1, description="CPU threads; default: one per core")


class DecisionConfig(_Section):
    """How scores become probabilities and labels; fitted on dev, never on test."""

    temperature_scaling: bool = True
    thresholds: Literal["auto", "global", "per_label", "none"] = Field(
        "auto",
        description="multi-label, tuned on dev: one for all labels, one per label (shrunk for rare labels), or auto: whichever cross-validation inside dev prefers; none: 0.5",
    )
    threshold_metric: Literal["f1_macro", "f1_micro"] = "f1_macro"
    abstain_below: float | None = Field(
        None, ge=0, le=1, description="single-label: below this probability the answer is null"
    )
    n_resamples: int = Field(1000, ge=100, description="bootstrap resamples of the intervals")


METHOD_SECTIONS: dict[str, type[_Section]] = {"encoder": EncoderConfig, "instruct": InstructConfig}
FOR_DECODERS = ("quantization", "nf4_backend", "shard_base", "template")


class RunConfig(
    DataConfig, ModelConfig, LoraConfig, EncoderConfig, InstructConfig, TrainConfig, DecisionConfig
):
    """Everything `sortal train` can be told; flat, so that a flag, a YAML key and a keyword argument share one name."""

    method: Literal["head", "instruct", "encoder", "tfidf", "majority"] = Field(
        "head",
        description="head: a linear layer on the final token's state; instruct: the model's own answer to a prompt, every label scored exactly; encoder: a BERT-type model with a classification head, all weights tuned; baselines without a pretrained model: tfidf (a linear model on words and characters) and majority (how frequent the labels are)",
    )
    out: str | None = Field(None, description="run folder; default: runs/<data name>-<method>-<seed>")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_method(cls, values: Any) -> Any:
        return with_method_defaults(values) if isinstance(values, dict) else values

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        if isinstance(value, bool) and cls.model_fields[name].annotation is not bool:
            raise ValueError("Input should not be true or false")
        if name in LISTS and isinstance(value, str | int):
            return (str(value),) if name == "text" else tuple(str(value).split(","))
        if name in TEXTS and isinstance(value, int | date):  # a column named 2024
            return str(value)
        return value

    @model_validator(mode="after")
    def _combinations(self) -> RunConfig:
        if self.label_columns and (self.label or self.label_delimiter):
            raise ValueError(
                "label_columns cannot be combined with label or label_delimiter: choose one way to give labels"
            )
        if self.task == "single" and (self.label_columns or self.label_delimiter):
            raise ValueError(
                "task 'single' contradicts label_columns / label_delimiter, which describe several labels per row"
            )
        if self.test_size + self.dev_size >= 0.9:
            raise ValueError(
                "dev_size + test_size leave less than a tenth of the rows for training: lower them"
            )
        self._check_method()
        if self.task == "multi" and self.abstain_below is not None:
            raise ValueError(
                "abstain_below is for single-label tasks; multi-label answers may already be empty"
            )
        if self.task == "single" and self.pos_weight != "none":
            raise ValueError("pos_weight is for multi-label tasks: use class_weight for a single-label one")
        if self.focal_gamma != 2.0 and self.loss != "focal":
            raise ValueError("focal_gamma has no effect without loss 'focal'")
        if self.nf4_backend == "bitsandbytes" and self.quantization != "nf4":
            raise ValueError("nf4_backend 'bitsandbytes' needs quantization 'nf4'")
        return self

    def _check_method(self) -> None:
        for method, section in METHOD_SECTIONS.items():
            if self.method != method and (given := self._given(section)):
                raise ValueError(f"{given[0]} is for method {method}")
        if self.method == "encoder":
            self._check_encoder()
            return
        if self.method in BASELINES:
            if given := [
                name
                for name in self._given(ModelConfig, LoraConfig, TrainConfig)
                if name not in FOR_BASELINES
            ]:
                verb = "is" if len(given) == 1 else "are"
                raise ValueError(
                    f"{', '.join(given)} {verb} for methods that tune a pretrained model, and {self.method} has none: leave out, or choose another method"
                )
            return
        if self.method == "instruct":
            if wrong := check_source(self.template_source):
                raise ValueError(wrong)
            if self.shortlist and (self.shuffle_labels or self.listed_labels):
                raise ValueError(
                    "shortlist chooses the listed labels by text: leave out shuffle_labels and listed_labels"
                )
            if self.shortlist and self.prior_correction:
                raise ValueError(
                    "prior_correction has no meaning with shortlist: an empty text has no candidates"
                )
            return
        if self.template_source not in ("summary", "eos") and self.template.count("{text}") != 1:
            raise ValueError(
                f"template {self.template!r} must be 'summary', 'eos' or a text containing {{text}} exactly once"
            )

    def _check_encoder(self) -> None:
        for name in FOR_DECODERS:
            if getattr(self, name) != ModelConfig.model_fields[name].default:
                raise ValueError(f"{name} is for methods head and instruct")
        if self.tuning == "full" and (given := self._given(LoraConfig)):
            raise ValueError(f"{given[0]} has no effect with tuning 'full': say tuning 'lora'")
        if self.tuning == "lora" and self.encoder_dropout:
            raise ValueError("encoder_dropout is for tuning 'full': use lora_dropout with tuning 'lora'")

    def _given(self, *sections: type[_Section]) -> list[str]:
        """Settings of ``sections`` that differ from their defaults."""
        fields = [item for section in sections for item in section.model_fields.items()]
        return [name for name, field in fields if getattr(self, name) != field.default]

    @property
    def base_model(self) -> str:
        """The model spec, of methods that tune one."""
        return self.model or default_model(self.method)

    @property
    def template_source(self) -> str:
        """The template with ``auto`` resolved."""
        if self.template != "auto":
            return self.template
        return {"head": "summary", "instruct": "classify", "encoder": "own"}[self.method]


class ResolvedConfig(RunConfig):
    """The settings of a run that tunes a model, once the number of training rows is known."""

    model: str
    epochs: int = Field(ge=0)
    batch_size: int = Field(ge=1)


def resolve_sizes(config: RunConfig, rows: int) -> ResolvedConfig:
    """Fill in the model, ``epochs`` and ``batch_size`` where the user left them open.

    A head needs some hundred optimiser steps before it is any good, so small data gets smaller steps and more passes:
    8 examples per step below 500 rows, 16 below 5,000, else 32; then as many epochs as give 350 steps, from 3 (encoder: 5) to 20.
    """
    batch_size = config.batch_size or (8 if rows < 500 else 16 if rows < 5000 else 32)
    epochs = config.epochs
    if epochs is None:
        epochs = min(max(math.ceil(350 * batch_size / max(rows, 1)), least_epochs(config.method)), 20)
    filled = {"model": config.base_model, "batch_size": batch_size, "epochs": epochs}
    return ResolvedConfig(**{**config.model_dump(), **filled})


def applies(name: str, method: str) -> bool:
    """Whether runs of ``method`` have a setting called ``name``."""
    for owner, section in METHOD_SECTIONS.items():
        if name in section.model_fields:
            return method == owner
    if method == "encoder" and name in FOR_DECODERS:
        return False
    if method in BASELINES and name not in FOR_BASELINES:
        return name in DataConfig.model_fields or name in DecisionConfig.model_fields
    return name in RunConfig.model_fields


def nearest(name: str, known: list[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def build_config(values: dict[str, Any], where: str = "settings") -> RunConfig:
    """Validate ``values`` into a `RunConfig`.

    Raises:
        ConfigError: naming every unknown key (with the nearest known one), wrong type or impossible combination.
    """
    refuse_unknown(values, where)
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            f"{where}: {_explain(error)}", "run `sortal config schema` for the types and limits"
        ) from None


def refuse_unknown(values: dict[str, Any], where: str) -> None:
    """Refuse keys that are no settings, with the nearest one that is."""
    known = list(RunConfig.model_fields)
    unknown = [key for key in values if key not in known]
    if unknown:
        problems = "; ".join(f"unknown key {key!r}{nearest(key, known)}" for key in unknown)
        raise ConfigError(f"{where}: {problems}", "run `sortal config schema` for all keys")


def _explain(error: ValidationError) -> str:
    parts = []
    for item in error.errors(include_url=False):
        key = str(item["loc"][0]) if item["loc"] else ""
        message = str(item["msg"]).removeprefix("Value error, ")
        given = "" if not key else f" (got {item['input']!r})"
        parts.append(f"{key}: {message}{given}" if key else message)
    return "; ".join(dict.fromkeys(parts))
