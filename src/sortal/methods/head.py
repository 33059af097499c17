"""Method ``head``: embedding-based classification (arXiv 2512.12677) with a causal LM, LoRA and a linear score."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open

from sortal.backbone import loading
from sortal.backbone.encoding import EncodedTexts, TextEncoder
from sortal.backbone.fingerprint import weights_fingerprint
from sortal.backbone.lora import fuse, parameter_count
from sortal.backbone.packing import microbatches, pack
from sortal.backbone.quiet import quiet
from sortal.backbone.sharding import shard_frozen
from sortal.backbone.sources import resolve
from sortal.backbone.template import Template, install, make_template
from sortal.config import RunConfig
from sortal.data.labels import LabelSpace
from sortal.errors import ModelError
from sortal.evaluation.decision import Decision
from sortal.evaluation.metrics import evaluate
from sortal.methods.base import FitContext, Fitted, Scores
from sortal.methods.head_model import HeadModel, tunable
from sortal.training.budget import default_max_tokens, peak_memory
from sortal.training.distributed import Processes, alone, processes
from sortal.training.loop import Loop, TrainingData
from sortal.training.losses import make_loss
from sortal.training.progress import NoProgress, ProgressView
from sortal.training.signals import Stoppable

_SCORE_CHUNK = 4096
PROBLEM_TYPE = {"single": "single_label_classification", "multi": "multi_label_classification"}


@dataclass
class HeadScorer:
    """A tuned network with its text encoder."""

    model: HeadModel
    encoder: TextEncoder
    max_tokens: int
    group: Processes | None = None
    sharded: bool = False

    def score(self, texts: Iterable[str], view: ProgressView | None = None) -> Scores:
        """Logits ``[n, labels]``."""
        return self.score_encoded(self.encoder.encode(texts), view=view)

    def score_encoded(self, texts: EncodedTexts, view: ProgressView | None = None) -> Scores:
        """Logits of encoded texts, in packs of similar length; with several processes each does its part, and all must call this."""
        view, group = view or NoProgress(), self.group or alone(self.model.device)
        scores = torch.zeros(len(texts), self.model.inner.config.num_labels, device=self.model.device)
        mine = group.share(np.arange(len(texts)))
        view.start("scoring", len(mine))
        with torch.inference_mode():
            end = group.largest(len(mine)) if self.sharded else len(mine)
            for start in range(0, end, _SCORE_CHUNK):
                chunk = mine[start : start + _SCORE_CHUNK]
                parts = list(microbatches(texts.lengths[chunk].tolist(), self.max_tokens))
                # Gathering a slice takes all processes in step, so all run as many packs.
                idle = group.largest(len(parts)) - len(parts) if self.sharded else 0
                for part in parts:
                    rows = chunk[part]
                    scores[torch.from_numpy(rows)] = self._logits(texts, rows)
                    view.advance(len(rows), int(texts.lengths[rows].sum()))
                for _ in range(idle):
                    self._logits(texts, np.zeros(1, np.int64))
        view.stop()
        group.sum_([scores])
        return scores.cpu().numpy()

    def _logits(self, texts: EncodedTexts, rows: np.ndarray[Any, Any]) -> torch.Tensor:
        return self.model(pack([texts[i] for i in rows]).to(self.model.device))  # type: ignore[no-any-return]

    def save(self, folder: Path) -> dict[str, Any]:
        """Adapter, config and tokenizer files in the layout of peft and transformers."""
        self.model.classifier.save_pretrained(folder)
        for stray in ("README.md",):  # peft writes a card of its own
            (folder / stray).unlink(missing_ok=True)
        config = self.model.inner.config
        config.save_pretrained(folder)
        self.encoder.tokenizer.save_pretrained(folder)
        _check_tokenizer(folder, self.encoder)
        template = self.encoder.template
        return {
            "template": {
                "source": template.source,
                "prefix": list(template.prefix),
                "suffix": list(template.suffix),
                "hash": template.hash,
            },
            "max_length": self.encoder.max_length,
            "truncation": self.encoder.truncation,
            "dtype": str(self.model.inner.dtype).removeprefix("torch."),
        }


class HeadMethod:
    """Fitting and loading of ``head``."""

    def fit(self, context: FitContext) -> Fitted:
        """Train adapters and score on ``context.train``; early stopping and best weights by ``context.dev``."""
        config, space, say = context.config, context.label_space, context.say
        torch.manual_seed(config.seed)
        encoder = make_encoder(context.source.path, config, context.source.revision)
        train, dev = encoder.encode(context.train.iter_texts()), encoder.encode(context.dev.iter_texts())
        say(_lengths_line(train, encoder))
        scorer = self._network(context, encoder)
        trained, total = parameter_count(scorer.model)
        say(
            f"{trained:,} trainable of {total:,} parameters ({100 * trained / total:.2f} %), {scorer.encoder.template.source!r} template"
        )
        gold, dev_gold = space.encode(context.train), space.encode(context.dev)
        loss = make_loss(config, space.task, space.names, gold)
        targets = torch.from_numpy(gold) if space.task == "single" else torch.from_numpy(gold).float()

        # With several processes a stop waits for the end of the evaluation: all must leave it together.
        view = Stoppable(context.stop) if context.processes.world == 1 else NoProgress()

        latest: list[Scores] = []

        def figures() -> dict[str, float]:
            latest[:] = [scorer.score_encoded(dev, view)]
            return _dev_figures(latest[0], dev_gold, space, config)

        loop = Loop(
            scorer.model,
            TrainingData(train, targets),
            loss,
            figures,
            config,
            processes=context.processes,
            max_tokens=config.max_tokens or scorer.max_tokens,
            store=context.store,
            stop=context.stop,
            view=context.view,
            say=say,
            on_log=context.on_log,
        )
        if context.resume:
            loop.resume()
        began = time.monotonic()
        progress = loop.run()
        best_is_last = bool(progress.history) and progress.history[-1]["step"] == progress.best_step
        return Fitted(
            scorer,
            latest[0] if latest and best_is_last else scorer.score_encoded(dev, context.view),
            {
                "trainable_parameters": trained,
                "parameters": total,
                "packed": scorer.model.packed,
                "dtype": str(scorer.model.inner.dtype).removeprefix("torch."),
                "template_hash": encoder.template.hash,
                "truncated_train_rows": train.truncated,
                "train_tokens_per_epoch": train.tokens,
                "steps": progress.step,
                "tokens": progress.tokens,
                "train_seconds": round(progress.train_seconds, 3),
                "wall_seconds_with_dev": round(time.monotonic() - began, 3),
                "tokens_per_second": round(progress.tokens / max(progress.train_seconds, 1e-9), 1),
                "max_tokens": progress.max_tokens,
                "skipped_steps": progress.skipped_steps,
                "out_of_memory_retries": progress.out_of_memory_retries,
                "best_step": progress.best_step,
                "history": progress.history,
                "peak_memory_bytes": peak_memory(context.processes.device),
            },
            loss.shifts_probabilities,
        )

    def _network(self, context: FitContext, encoder: TextEncoder) -> HeadScorer:
        config, space, device = context.config, context.label_space, context.processes.device
        settings = loading.load_config(context.source.path, trust_remote_code=config.trust_remote_code)
        settings.num_labels = len(space)
        settings.id2label = space.id2label
        settings.label2id = {name: i for i, name in space.id2label.items()}
        settings.problem_type = PROBLEM_TYPE[space.task]
        settings.pad_token_id = encoder.tokenizer.pad_token_id
        settings.use_cache = False
        dtype = loading.choose_dtype(config.dtype, device)
        classifier = loading.load_classifier(
            context.source.path,
            settings,
            dtype=dtype,
            device=device,
            quantization=config.quantization,
            nf4_backend=config.nf4_backend,
            trust_remote_code=config.trust_remote_code,
        )
        model = tunable(classifier, config)
        if not model.packed:
            context.say(
                "this architecture cannot run packed rows exactly; using padded rows (slower, same results)"
            )
        if config.shard_base:
            released = shard_frozen(model)
            context.say(
                f"base shared by {context.processes.world} processes: {released / 1e6:,.0f} MB released on each"
            )
        budget = default_max_tokens(settings, dtype, device)
        return HeadScorer(model, encoder, budget, context.processes, config.shard_base)

    def load(self, folder: Path, meta: dict[str, Any], label_space: LabelSpace) -> HeadScorer:
        """The scorer saved in ``folder``; refuses a missing ``score``, missing adapters and changed templates.

        Raises:
            ModelError: naming what does not fit.
        """
        tokenizer = loading.load_tokenizer(str(folder))
        saved = meta["template"]
        template = Template(saved["source"], tuple(saved["prefix"]), tuple(saved["suffix"]))
        if template.hash != saved["hash"]:
            raise ModelError(
                f"{folder}/sortal.json: the template does not match its hash",
                "restore the file; it was edited",
            )
        encoder = TextEncoder(tokenizer, template, meta["max_length"], meta["truncation"])
        _check_tokenizer(folder, encoder)
        settings = loading.load_config(str(folder))
        names = tuple(str(settings.id2label[i]) for i in range(settings.num_labels))
        if names != label_space.names:
            raise ModelError(
                f"{folder}: config.json and sortal.json disagree about the labels",
                "restore both files from one run",
            )
        _check_adapter(folder, len(label_space), settings.hidden_size)
        device = processes().device
        dtype = getattr(torch, meta["dtype"])
        base = resolve(meta["base_model"]["spec"])
        if base.revision != meta["base_model"]["revision"]:
            raise ModelError(
                f"{folder} was tuned on {meta['base_model']['spec']} at {meta['base_model']['revision']}, "
                f"but that spec now gives {base.revision}",
                "pin the revision, or restore the base model",
            )
        known = meta["base_model"].get("fingerprint")
        if known is not None and known != weights_fingerprint(base.path):
            raise ModelError(
                f"{folder} was tuned on other weights than {meta['base_model']['spec']} holds now",
                "restore the base model it was tuned on, or train again",
            )
        classifier = loading.load_classifier(
            base.path,
            settings,
            dtype=dtype,
            device=device,
            quantization=meta["quantization"],
            nf4_backend=meta["nf4_backend"],
        )
        packed = loading.enable_packing(classifier)
        model = _attach_adapter(classifier, folder)
        model.requires_grad_(False)
        fuse(model)
        model.eval()
        return HeadScorer(HeadModel(model, packed), encoder, default_max_tokens(settings, dtype, device))


def make_encoder(path: str, config: RunConfig, revision: str | None = None) -> TextEncoder:
    """The tokenizer of a base model with the configured template written into it."""
    tokenizer = loading.load_tokenizer(path, trust_remote_code=config.trust_remote_code)
    template = make_template(config.template, tokenizer)
    install(template, tokenizer, config.max_length, config.truncation)
    return TextEncoder(tokenizer, template, config.max_length, config.truncation)


def _dev_figures(
    scores: Scores, gold: np.ndarray[Any, Any], space: LabelSpace, config: RunConfig
) -> dict[str, float]:
    """Dev metrics; for multi-label under one global threshold tuned on the same rows, which is for choosing weights only."""
    decision = Decision.fit(
        scores, gold, space.task, thresholds="global", threshold_metric=config.threshold_metric
    )
    found = evaluate(scores, gold, decision, space, n_resamples=0)
    shown: dict[str, float] = {
        str(key): float(found[key]) for key in ("accuracy", "f1_micro", "f1_macro") if key in found
    }
    shown["loss"] = float(found["log_loss"])
    wanted = config.metric_for_best_model
    if wanted not in shown:  # accuracy of a multi-label task is the share of exactly right rows
        shown[wanted] = float(found["subset_accuracy"])
    shown["metric"] = -shown["loss"] if wanted == "loss" else shown[wanted]
    return shown


def _lengths_line(train: EncodedTexts, encoder: TextEncoder) -> str:
    lengths = train.lengths
    return (
        f"{len(train):,} training texts, {train.tokens:,} tokens with template (median {int(np.median(lengths))}, max {int(lengths.max())}); "
        f"{train.truncated:,} truncated to {encoder.max_length} tokens ({100 * train.truncated / len(train):.1f} %, keeps the {encoder.truncation})"
    )


_PROBES = ("A short text.", "", " <|im_end|> </s> <eos> Ünïcode 文字 \U0001f600 ")
_LONG = "one two three four five six seven eight nine ten "


def _check_tokenizer(folder: Path, encoder: TextEncoder) -> None:
    """The saved tokenizer, read by plain transformers, must give the ids our encoder gives."""
    reloaded = loading.load_tokenizer(str(folder))
    whole = replace(encoder, max_length=1 << 20)
    same = _lists(whole.encode(_PROBES)) == reloaded(list(_PROBES), verbose=False)["input_ids"]
    if encoder.truncation != "head+tail":  # tokenizers have no such policy
        long = _LONG * (1 + encoder.max_length // 8)
        same &= _lists(encoder.encode([long])) == reloaded([long], truncation=True)["input_ids"]
    if not same:
        raise ModelError(
            f"{folder}: the tokenizer does not apply the template it was saved with",
            "restore tokenizer.json from the run",
        )


def _lists(texts: EncodedTexts) -> list[list[int]]:
    return [ids.tolist() for ids in texts]


def _check_adapter(folder: Path, labels: int, hidden: int) -> None:
    """Refuse, before the base model is loaded, a folder whose ``score`` is missing or of another shape (S3)."""
    path = folder / "adapter_model.safetensors"
    shapes = _shapes(path)
    score = [shape for key, shape in shapes.items() if key.endswith(".score.weight")]
    if not score:
        raise ModelError(
            f"{path} holds no weights of the score head",
            "a classifier without its head cannot be used; train again",
        )
    if score[0] != (labels, hidden):
        raise ModelError(
            f"{path}: score is {score[0]}, expected ({labels}, {hidden})",
            "the adapter belongs to another label set or base model",
        )


def _attach_adapter(classifier: Any, folder: Path) -> PeftModel:
    """``classifier`` with the folder's adapter, every tensor of the one having found its place in the other (S3).

    peft only warns about tensors it misses, and an adapter that is left at its initial values does nothing.
    """
    try:
        with quiet():
            model = PeftModel.from_pretrained(classifier, str(folder))
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{folder}: the adapter does not fit its base model ({reason})", "restore the folder from its run"
        ) from None
    path = folder / "adapter_model.safetensors"
    expected = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    found = set(_shapes(path))
    if missing := sorted(expected - found):
        raise ModelError(
            f"{path} lacks {len(missing)} of {len(expected)} tensors, {missing[0]} first",
            "restore the file from the run",
        )
    if stray := sorted(found - expected):
        raise ModelError(
            f"{path} holds {len(stray)} tensors this model has no place for, {stray[0]} first",
            "restore adapter_config.json and the adapter from one run",
        )
    return model


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a safetensors file, from its header."""
    if not path.exists():
        raise ModelError(f"{path} is missing", "restore it from the run that made this folder")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises its own type, which is not exported under a stable name
        raise ModelError(f"{path} is damaged ({error})", "restore it from the run") from None
