"""The settings of a run: one pydantic model for flags, YAML, Python and ``sortal config schema``.

Names follow transformers and peft (``learning_rate``, ``lora_r``, ``max_length`` …). ``extra="forbid"``
plus `build_config` turn a misspelt key into an error that names the nearest real one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import Any, Literal

from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sortal.config_ensemble import (
    ENSEMBLES,
    NOT_OF_MEMBERS,
    EnsembleConfig,
    member_folders,
    trained_members,
    with_members,
    wrong_for_members,
    wrong_members,
)
from sortal.config_hierarchy import (
    DATA_FIELDS,
    HIERARCHIES,
    TREE_LISTS,
    TREE_TEXTS,
    HierarchyConfig,
    LabelTreeConfig,
    wrong_hierarchy,
    wrong_tree,
)
from sortal.config_long import SectionsConfig, WindowsConfig, with_sections, wrong_windows
from sortal.config_losses import LOSS_METHODS, LossConfig, refused_losses
from sortal.config_presets import PRESET_METHODS, PresetConfig, with_preset, wrong_preset
from sortal.config_sections import (
    BASELINES,
    FOR_ALL,
    FOR_DECODERS,
    LISTS,
    METHOD_SECTIONS,
    NOT_TUNED,
    POOLINGS,
    TEXTS,
    BlendConfig,
    DataConfig,
    DecisionConfig,
    EncoderConfig,
    HeadConfig,
    InstructConfig,
    LoraConfig,
    ModelConfig,
    PoolingConfig,
    ProbeConfig,
    ScoreConfig,
    SearchConfig,
    Section,
    WordingConfig,
    wrong_template,
)
from sortal.config_shots import ShotsConfig, wrong_shots
from sortal.config_training import TrainConfig
from sortal.config_unseen import UnseenLabelsConfig
from sortal.data.problems import nearest
from sortal.errors import ConfigError
from sortal.method_defaults import DEFAULT_MODEL, least_epochs, with_method_defaults
from sortal.prompting.template import check_source

# Sections that not all methods have, and those that do.
OWN_SECTIONS: dict[type[Section], frozenset[str]] = {
    **METHOD_SECTIONS,
    LossConfig: LOSS_METHODS,
    HierarchyConfig: HIERARCHIES,
    PresetConfig: PRESET_METHODS,
    ShotsConfig: METHOD_SECTIONS[InstructConfig],
    EnsembleConfig: ENSEMBLES,
    WindowsConfig: METHOD_SECTIONS[BlendConfig],  # all with a pretrained model
}


class RunConfig(
    DataConfig,
    UnseenLabelsConfig,
    LabelTreeConfig,
    SectionsConfig,
    PresetConfig,
    ModelConfig,
    WindowsConfig,
    PoolingConfig,
    SearchConfig,
    ProbeConfig,
    HeadConfig,
    WordingConfig,
    ScoreConfig,
    LoraConfig,
    EncoderConfig,
    InstructConfig,
    ShotsConfig,
    BlendConfig,
    EnsembleConfig,
    HierarchyConfig,
    TrainConfig,
    LossConfig,
    DecisionConfig,
):
    """Everything `sortal train` can be told; flat, so that a flag, a YAML key and a keyword argument share one name."""

    method: Literal["head", "instruct", "probe", "encoder", "tfidf", "majority", "ensemble"] = Field(
        "head",
        description="head: a linear layer on the final token's state; instruct: the model's own answer to a prompt, every label scored exactly; probe: a logistic regression on a frozen model's states, the best of its layers; encoder: a BERT-type model with a classification head, all weights tuned; baselines without a pretrained model: tfidf (a linear model on words and characters) and majority (how frequent the labels are); ensemble: several of these, or finished runs, whose scores are added",
    )
    out: str | None = Field(None, description="run folder; default: runs/<data name>-<method>-<seed>")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_method(cls, values: Any) -> Any:
        return (
            with_sections(with_method_defaults(with_preset(with_members(values))))
            if isinstance(values, dict)
            else values
        )

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        if isinstance(value, bool) and cls.model_fields[name].annotation is not bool:
            raise ValueError("Input should not be true or false")
        if name in LISTS | TREE_LISTS and isinstance(value, str | int):
            return (str(value),) if name == "text" else tuple(str(value).split(","))
        if name in TEXTS | TREE_TEXTS and isinstance(value, int | date):  # a column named 2024
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
        if wrong := wrong_tree(self):
            raise ValueError(wrong)
        if self.level_columns and (self.label or self.label_columns or self.label_delimiter):
            raise ValueError(
                "level_columns cannot be combined with label, label_columns or label_delimiter: choose one way to give labels"
            )
        if self.level_columns and self.task == "multi":
            raise ValueError(
                "level_columns give one label per row: for several, write them as paths or give a parent_map"
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
        if refused := refused_losses(self, self.task):
            raise ValueError(refused)
        if self.nf4_backend == "bitsandbytes" and self.quantization != "nf4":
            raise ValueError("nf4_backend 'bitsandbytes' needs quantization 'nf4'")
        return self

    def _check_method(self) -> None:
        if wrong := wrong_members(self) or wrong_hierarchy(self):
            raise ValueError(wrong)
        if wrong := wrong_preset(self.preset, self.method):
            raise ValueError(wrong)
        if self.trained_members:
            self._check_trained()
            return
        for section, methods in OWN_SECTIONS.items():
            if self.method not in methods and (given := self._given(section)):
                raise ValueError(f"{given[0]} is for method {' or '.join(sorted(methods))}")
        if self.pooling not in (known := POOLINGS.get(self.method, ("auto",))):
            raise ValueError(f"pooling {self.pooling!r} is not for {self.method}: use {', '.join(known)}")
        if self.method != "instruct" and self.verbalizer != "words":
            if self.verbalizer == "codes":
                raise ValueError(
                    "verbalizer 'codes' is for method instruct: its answers are what codes make short"
                )
            if self.score_init == "random" and not self.lists_labels:
                raise ValueError("verbalizer has no effect with score_init 'random': leave one of them out")
        if wrong := wrong_windows(self, self._given(WindowsConfig)):
            raise ValueError(wrong)
        if self.method in NOT_TUNED:
            self._check_not_tuned()
        if self.method == "encoder":
            self._check_encoder()
        elif self.method == "instruct":
            self._check_instruct()
        elif self.method not in BASELINES:
            for source in self.template_sources:
                if wrong := wrong_template(source, self.method):
                    raise ValueError(wrong)

    def _check_trained(self) -> None:
        given = [name for name in sorted(self.model_fields_set) if self._is_given(name)]
        if wrong := wrong_for_members(self.trained_members, given, applies):
            raise ValueError(wrong)
        for method in self.trained_members:
            try:
                self.of_member(method)
            except ValidationError as error:
                raise ValueError(f"member {method}: {_explain(error)}") from None

    def _check_not_tuned(self) -> None:
        sections = (
            (ModelConfig, LoraConfig, TrainConfig) if self.method in BASELINES else (LoraConfig, TrainConfig)
        )
        free = FOR_ALL if self.method in BASELINES else FOR_ALL | {"max_tokens"}
        given = [name for name in self._given(*sections) if name not in free]
        if given and self.method in BASELINES:
            raise ValueError(
                f"{_are(given)} for methods that tune a pretrained model, and {self.method} has none: leave out, or choose another method"
            )
        if given:
            raise ValueError(
                f"{_are(given)} for methods that tune the model, and {self.method} leaves it as it is: leave out, or choose another method"
            )
        if self.method == "probe" and not self.templates:
            raise ValueError("templates is empty: name at least one")

    def _check_instruct(self) -> None:
        if wrong := check_source(self.template_source):
            raise ValueError(wrong)
        if wrong := wrong_shots(self):
            raise ValueError(wrong)
        if self.shortlist and (self.shuffle_labels or self.listed_labels):
            raise ValueError(
                "shortlist chooses the listed labels by text: leave out shuffle_labels and listed_labels"
            )
        if self.shortlist and self.blend != "none":
            raise ValueError(
                "blend adds scores of all labels, and shortlist leaves most without one: leave one of them out"
            )
        if self.shortlist and self.prior_correction:
            raise ValueError(
                "prior_correction has no meaning with shortlist: an empty text has no candidates"
            )

    def _check_encoder(self) -> None:
        for name in FOR_DECODERS:
            if getattr(self, name) != ModelConfig.model_fields[name].default:
                raise ValueError(f"{name} is for methods head, instruct and probe")
        if self.tuning == "full" and (given := self._given(LoraConfig)):
            raise ValueError(f"{given[0]} has no effect with tuning 'full': say tuning 'lora'")
        if self.tuning == "lora" and self.encoder_dropout:
            raise ValueError("encoder_dropout is for tuning 'full': use lora_dropout with tuning 'lora'")

    def _given(self, *sections: type[Section]) -> list[str]:
        """Settings of ``sections`` that differ from their defaults."""
        return [name for section in sections for name in section.model_fields if self._is_given(name)]

    def _is_given(self, name: str) -> bool:
        return bool(getattr(self, name) != RunConfig.model_fields[name].default)

    @property
    def trained_members(self) -> tuple[str, ...]:
        """The methods that an ensemble trains before it adds their scores; none where its members are finished runs."""
        return trained_members(self.members)

    def of_member(self, method: str) -> RunConfig:
        """The settings of a method that this ensemble trains: those it was given that ``method`` has."""
        given = self.model_dump(exclude_unset=True, exclude=set(NOT_OF_MEMBERS))
        own = {name: value for name, value in given.items() if applies(name, method)}
        if applies("blend", method):
            own["blend"] = "none"
        if self.out is not None:
            own["out"] = member_folders(self)[self.members.index(method)]
        return RunConfig.model_validate({**own, "method": method})

    @property
    def base_model(self) -> str:
        """The model spec, of methods that tune one."""
        return self.model or DEFAULT_MODEL

    @property
    def template_source(self) -> str:
        """The template with ``auto`` resolved."""
        if self.template != "auto":
            return self.template
        return {"instruct": "classify", "encoder": "own"}.get(self.method, "summary")

    @property
    def lists_labels(self) -> bool:
        """Whether the template of a head names the labels before every text."""
        source = self.template_source
        return self.method == "head" and (source == "labels" or "{labels}" in source)

    @property
    def template_sources(self) -> tuple[str, ...]:
        """The templates that a probe compares; for other methods the one there is."""
        return (
            self.templates if self.method == "probe" and self.template == "auto" else (self.template_source,)
        )


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
    """Whether a setting called ``name``, given for several methods, is meant for ``method``."""
    for section, methods in OWN_SECTIONS.items():
        if name in section.model_fields:
            return method in methods
    if method in NOT_TUNED and name not in FOR_ALL:
        shared = name in DATA_FIELDS or name in DecisionConfig.model_fields
        return shared or (
            method not in BASELINES and (name in ModelConfig.model_fields or name == "max_tokens")
        )
    if method == "encoder" and (name == "model" or name in FOR_DECODERS or name in LoraConfig.model_fields):
        return False
    return name in RunConfig.model_fields


def says_something(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a setting of a run's recorded ``config`` means something there: its method has it, or its ensemble's members were given it."""
    if applies(name, config["method"]):
        return True
    usual = RunConfig.model_fields[name].default
    given = config.get(name) != (list(usual) if isinstance(usual, tuple) else usual)
    return given and bool(trained_members(config.get("members", ())))


def _are(names: list[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


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
