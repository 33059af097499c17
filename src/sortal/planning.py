"""What a run would take, before anything is loaded: memory, tokens, time, and which GPUs it fits on.

Weights are never read: the memory of a step is measured on a short copy of the network made from its config
(`sortal.methods.rehearsal`), and the time follows from the number of tokens and the machine's rate of matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import torch
from pydantic import ValidationError

from sortal.backbone import hub, loading
from sortal.backbone.carried import cached_entry
from sortal.backbone.depth import cut_layers
from sortal.backbone.folders import read_json
from sortal.backbone.lora import top_layers
from sortal.backbone.registry import REGISTRY
from sortal.backbone.sources import ModelSource, kind_of, resolve
from sortal.config import ResolvedConfig, RunConfig, resolve_sizes
from sortal.config_presets import PRESET_METHODS, PRESETS, other_preset
from sortal.errors import ConfigError
from sortal.methods import get_method
from sortal.methods.base import PreviewContext
from sortal.methods.blend import settled_blend
from sortal.methods.preview import TokenPreview
from sortal.methods.rehearsal import Network
from sortal.methods.state_folders import most_bytes
from sortal.methods.trunk_cache import state_bytes
from sortal.parts import Parts, read_parts
from sortal.training.budget import CHECKPOINTING, ceiling, choose_budget, free_memory, kept_by_libraries
from sortal.training.distributed import processes
from sortal.training.forecast import computed_tokens, matrix_flops, seconds_of, update_seconds
from sortal.training.progress import TerminalProgress

SIZES_GB = (8, 16, 24, 80)
_CONTEXT = 0.6e9  # what a CUDA context and its libraries take beside tensors
_METHODS = ("head", "instruct", "encoder")


@dataclass(frozen=True)
class Fit:
    """A training step in some memory.

    max_tokens: of a microbatch, 0 where nothing fits. checkpointing: whether layers have to be computed twice. peak_bytes: of a step of the run's texts.
    """

    max_tokens: int
    checkpointing: bool
    peak_bytes: int


@dataclass(frozen=True)
class PresetPlan:
    """What a preset would take on this machine.

    seconds: the least and the most of all members' steps, and of reading the states below the tuned layers. peak_bytes: of memory, of the largest; state_bytes: kept on disk.
    blend: the linear model that is fitted beside it, in time of its own, or ``none``.
    """

    seconds: tuple[float, float]
    peak_bytes: int
    state_bytes: int
    blend: str


@dataclass(frozen=True)
class Plan:
    """All figures of a plan.

    Attributes:
        parameters, linear_parameters: of the network, and of the linear layers, which decide the time.
        weight_bytes, trained_bytes: the frozen or whole weights; trained parameters with gradients and optimiser state.
        tokens_per_epoch: of the training texts, each with its template or answer; shared_tokens: of a prompt that every microbatch reads once.
        fits: per quantisation and GPU memory in GB.
        here: on this machine; seconds: the least and the most that training is likely to take here.
        presets: by name, of a method that has them.
    """

    method: str
    model: str
    device: str
    rows: int
    epochs: int
    steps: int
    batch_size: int
    tokens_per_epoch: int
    shared_tokens: int
    longest: int
    truncated: int
    parameters: int
    linear_parameters: int
    weight_bytes: int
    trained_bytes: int
    fits: dict[str, dict[int, Fit]]
    here: Fit
    matrix_flops: float
    seconds: tuple[float, float]
    presets: dict[str, PresetPlan]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def plan(config: RunConfig, *, say: Callable[[str], None], consent: bool = False) -> Plan:
    """What ``config`` would take.

    Of an ensemble that trains its members it is the plan of the first one that is tuned in steps.

    Raises:
        ConfigError: a method that does not tune a model in steps.
    """
    fetch = config.preset == "best"
    if fetch:  # a head's, beside which the presets are shown
        config = RunConfig.model_validate(other_preset(config.model_dump(exclude_unset=True), "balanced"))
    elif stepped := [method for method in config.trained_members if method in _METHODS]:
        say(f"planning the member {stepped[0]}; the others come on top")
        config = config.of_member(stepped[0])
    if config.method not in _METHODS:
        raise ConfigError(
            f"method {config.method} is not tuned in steps, so there is no step to plan",
            f"plan one of {', '.join(_METHODS)}",
        )
    return _plan(config, read_parts(config, say), consent, say, fetch)


def _plan(config: RunConfig, parts: Parts, consent: bool, say: Callable[[str], None], fetch: bool) -> Plan:
    def other(own: RunConfig) -> Plan | None:
        """The plan of another model of a preset; None where a model would have to be fetched that was not asked for."""
        entry = REGISTRY.get(own.base_model)
        if fetch or entry is None or cached_entry(entry):
            return _plan(own, parts, consent, say, fetch)
        say(f"preset best is left out: {entry.name} is not on this machine, and --preset best fetches it")
        return None

    method = get_method(config.method)
    method.check(config, parts.train, parts.label_space)
    source = _described(config, consent, say)
    sizes = resolve_sizes(config, len(parts.train))
    with TerminalProgress() as view:
        preview = method.preview(PreviewContext(source, config, parts.train, parts.label_space, 0, view))
    assert isinstance(preview, TokenPreview)
    device = processes().device
    network = replace(
        _network(config, source.path, len(parts.label_space), device), prompted=preview.shared > 0
    )
    say(f"rehearsing a step on a short copy of {config.base_model} …")
    prompt, longest = preview.shared, preview.longest
    weights, trained = network.weights()
    room = _Room(network, longest, prompt, sizes.batch_size)
    weights, trained = room.weights
    here = room.fit(free_memory(device) - weights)
    rate = matrix_flops(device, network.dtype)

    steps = math.ceil(len(parts.train) / sizes.batch_size) * sizes.epochs
    whole = config.method == "encoder" and config.tuning == "full"  # weights in fp32
    updates = update_seconds(steps, weights // 4 if whole else 0, device)  # of adapters they are nothing
    least, _, most = seconds_of(
        _work(room, sizes, preview, parts, here), rate, device, network.dtype, updates
    )
    return Plan(
        config.method,
        config.base_model,
        device.type,
        len(parts.train),
        sizes.epochs,
        steps,
        sizes.batch_size,
        preview.tokens,
        prompt,
        longest,
        preview.truncated,
        network.parameters,
        network.linear_parameters,
        weights,
        trained,
        {name: _on_gpus(room, name) for name in _quantisations(config)},
        here,
        rate,
        (least, most),
        _presets(config, room, here, preview, parts, rate, other),
    )


def _described(config: RunConfig, consent: bool, say: Callable[[str], None]) -> ModelSource:
    """Config and tokenizer of the model; of one on the hub, its weights are not fetched."""
    spec, trust = config.base_model, config.trust_remote_code
    folder = Path(spec).expanduser()
    if (folder / "config.json").is_file():
        return ModelSource(spec, str(folder), None, None, None, kind_of(read_json(folder / "config.json")))
    parts = None if folder.exists() else hub.parse(spec)
    if parts is None:
        return resolve(spec, consent=consent, say=say, trust_remote_code=trust)
    snapshot = hub.fetch(*parts, say, trust_remote_code=trust, weights=False)
    kind = kind_of(read_json(snapshot.path / "config.json"))
    return ModelSource(spec, str(snapshot.path), snapshot.commit, snapshot.licence, None, kind)


def _network(config: RunConfig, path: str, labels: int, device: torch.device) -> Network:
    settings = loading.load_config(path, trust_remote_code=config.trust_remote_code)
    settings.num_labels = labels
    settings.pad_token_id = settings.pad_token_id or 0
    if isinstance(config.keep_layers, int):
        cut_layers(settings, config.keep_layers)
    dtype = loading.choose_dtype(config.dtype, device)
    return Network(
        config.method, settings, config, dtype, device, "mean" if config.pooling == "mean" else "last"
    )


def _quantisations(config: RunConfig) -> tuple[str, ...]:
    return ("none",) if config.method == "encoder" else ("none", "nf4")


@dataclass(frozen=True)
class _Room:
    """A network's steps in any amount of memory; rehearsed once."""

    network: Network
    longest: int
    prompt: int
    batch_size: int

    @cached_property
    def weights(self) -> tuple[int, int]:
        return self.network.weights()

    def fit(self, free: float) -> Fit:
        """A step in ``free`` bytes beside the weights."""
        weights, trained = self.weights
        config, device = self.network.config, self.network.device
        tokens, checkpointed = choose_budget(
            self.network.plain,
            lambda: self.network.checkpointed,
            free=int(free - trained),
            ceiling=ceiling(device),
            longest=self.longest,
            prompt=self.prompt,
            asked=config.max_tokens,
            checkpointing=CHECKPOINTING[config.gradient_checkpointing],
        )
        memory = checkpointed or self.network.plain
        step = memory.of_tokens(max(tokens, self.prompt + self.longest), self.longest, self.prompt)
        # A step has no more texts than this, however many tokens are allowed.
        most = min(tokens, self.prompt + self.batch_size * self.longest)
        process = 0 if device.type == "cuda" else psutil.Process().memory_info().rss
        process += kept_by_libraries(device, self.network.dtype)
        peak = process + weights + trained + memory.of_tokens(most, self.longest, self.prompt)
        return Fit(tokens if step + trained <= free else 0, checkpointed is not None, peak)


def _on_gpus(here: _Room, quantization: str) -> dict[int, Fit]:
    config = here.network.config.model_copy(update={"quantization": quantization})
    network = replace(here.network, config=config, device=torch.device("cuda"), dtype=torch.bfloat16)
    room = replace(here, network=network)
    return {size: room.fit(size * 1e9 - _CONTEXT - room.weights[0]) for size in SIZES_GB}


def _presets(
    config: RunConfig,
    room: _Room,
    here: Fit,
    preview: TokenPreview,
    parts: Parts,
    rate: float,
    plan_other: Callable[[RunConfig], Plan | None],
) -> dict[str, PresetPlan]:
    """The same run with every preset that its other settings agree with; empty for a method that has none."""
    if config.method not in PRESET_METHODS:
        return {}
    asked, found = config.model_dump(exclude_unset=True), {}
    for name in PRESETS:
        try:
            other = RunConfig.model_validate(other_preset(asked, name))
        except ValidationError:
            continue
        methods = other.trained_members
        stepped = [each for each in methods if each in _METHODS and each != config.method]
        plans = [plan_other(other.of_member(each)) for each in stepped]
        others = [each for each in plans if each is not None]
        if len(others) < len(plans):
            continue
        if methods:
            other = other.of_member(config.method)
        own, fit, device = room, here, room.network.device
        if other.lora_top_layers != config.lora_top_layers:  # else its steps are the run's
            own = replace(room, network=replace(room.network, config=other))
            fit = own.fit(free_memory(device) - own.weights[0])
        sizes = resolve_sizes(other, len(parts.train))
        least, _, most = seconds_of(_work(own, sizes, preview, parts, fit), rate, device, room.network.dtype)
        found[name] = PresetPlan(
            (least + sum(each.seconds[0] for each in others), most + sum(each.seconds[1] for each in others)),
            max([fit.peak_bytes, *(each.here.peak_bytes for each in others)]),
            _state_bytes(own.network, sizes, _with_dev(preview, parts)),
            "tfidf" if "tfidf" in methods else settled_blend(other, parts),
        )
    return found


def _work(room: _Room, sizes: ResolvedConfig, preview: TokenPreview, parts: Parts, here: Fit) -> float:
    """Floating-point operations of the linear layers in all steps, and in reading the states below the tuned ones.

    Forward and the gradient to inputs; of weights that are tuned themselves, their gradient too.
    """
    network, rows = room.network, len(parts.train)
    depth = int(network.settings.num_hidden_layers)
    above = top_layers(sizes, depth) / depth
    tokens = computed_tokens(
        preview.tokens, rows, sizes.batch_size, preview.shared, here.max_tokens - preview.shared
    )
    whole = network.method == "encoder" and sizes.tuning == "full"
    passes = (6 if whole else 4) * above + (2 if here.checkpointing else 0) * above
    below, once = 2 * (1 - above), 0.0
    read = _with_dev(preview, parts)
    if _state_bytes(network, sizes, read):
        below, once = 0.0, below * read
    return network.linear_parameters * (sizes.epochs * tokens * (passes + below) + once)


def _with_dev(preview: TokenPreview, parts: Parts) -> int:
    """Tokens of training and dev texts, which are taken to be as long."""
    return round(preview.tokens * (1 + len(parts.dev) / len(parts.train)))


def _state_bytes(network: Network, config: RunConfig, tokens: int) -> int:
    """On disk, of the states below the tuned layers; 0 where they are computed in every epoch."""
    depth = int(network.settings.num_hidden_layers)
    cached = network.method == "head" and config.cache_trunk == "auto" and config.windows == 1
    if not cached or network.prompted or top_layers(config, depth) == depth:
        return 0
    found = state_bytes(tokens, int(network.settings.hidden_size), network.dtype)
    return found if found <= most_bytes() else 0
