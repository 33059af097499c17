"""Method ``head``: embedding-based classification (arXiv 2512.12677) with a causal LM, LoRA and a linear score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from sortal.backbone import loading
from sortal.backbone.encoding import EncodedTexts, TextEncoder
from sortal.backbone.lora import fuse
from sortal.backbone.packing import microbatches, pack
from sortal.backbone.sharding import shard_frozen
from sortal.backbone.sources import ModelSource
from sortal.backbone.template import Template, install, make_template
from sortal.config import RunConfig
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.errors import ModelError
from sortal.methods.adapter_folder import (
    adapter_shapes,
    attach_adapter,
    check_base,
    check_labels,
    name_labels,
)
from sortal.methods.base import FitContext, Fitted, Scores, required
from sortal.methods.head_model import HeadModel, tunable
from sortal.methods.preview import Preview, TokenPreview, TokenRow
from sortal.methods.tuning import fine_tune, lengths_line, parameters_line
from sortal.training.budget import default_max_tokens
from sortal.training.distributed import Processes, alone, processes
from sortal.training.losses import make_loss
from sortal.training.objective import Classification
from sortal.training.progress import NoProgress, ProgressView

MAX_LENGTH = 256
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

    has_base: ClassVar[bool] = True

    def check(self, config: RunConfig, train: Dataset, label_space: LabelSpace) -> None:
        """Refuse loss settings that do not fit the labels."""
        make_loss(config, label_space.task, label_space.names, label_space.encode(train))

    def preview(
        self,
        config: RunConfig,
        train: Dataset,
        label_space: LabelSpace,
        source: ModelSource | None,
        rows: int,
        view: ProgressView,
    ) -> Preview:
        """Encoded texts; the state of the last token is classified."""
        encoder = make_encoder(required(source).path, config)
        texts = encoder.encode(train.iter_texts())
        shown = []
        for row in range(min(rows, len(texts))):
            ids = texts[row].tolist()
            last = encoder.tokenizer.decode(ids[-1:])
            about = f"all attended; the state of token {len(ids) - 1} {last!r} is classified"
            shown.append(TokenRow(row, ids, encoder.tokenizer.decode(ids), [len(ids) - 1], about))
        return TokenPreview(shown, texts.tokens, texts.truncated, encoder.max_length, encoder.template.hash)

    def fit(self, context: FitContext) -> Fitted:
        """Train adapters and score on ``context.train``; early stopping and best weights by ``context.dev``."""
        config, space, say = context.config, context.label_space, context.say
        torch.manual_seed(config.seed)
        encoder = make_encoder(context.base.path, config, context.base.revision)
        train, dev = encoder.encode(context.train.iter_texts()), encoder.encode(context.dev.iter_texts())
        say(lengths_line(train, encoder))
        scorer = self._network(context, encoder)
        say(f"{parameters_line(scorer.model)}, {scorer.encoder.template.source!r} template")
        gold = space.encode(context.train)
        loss = make_loss(config, space.task, space.names, gold)
        targets = torch.from_numpy(gold) if space.task == "single" else torch.from_numpy(gold).float()

        tuned = fine_tune(
            context,
            scorer.model,
            Classification(scorer.model, train, targets, loss, context.processes.device),
            lambda view: scorer.score_encoded(dev, view),
            max_tokens=config.max_tokens or scorer.max_tokens,
        )
        return Fitted(
            scorer,
            tuned.dev_scores,
            {
                "packed": scorer.model.packed,
                "dtype": str(scorer.model.inner.dtype).removeprefix("torch."),
                "template_hash": encoder.template.hash,
                "truncated_train_rows": train.truncated,
                "train_tokens_per_epoch": train.tokens,
                **tuned.figures,
            },
            loss.shifts_probabilities,
        )

    def _network(self, context: FitContext, encoder: TextEncoder) -> HeadScorer:
        config, space, device = context.config, context.label_space, context.processes.device
        settings = loading.load_config(context.base.path, trust_remote_code=config.trust_remote_code)
        name_labels(settings, space)
        settings.problem_type = PROBLEM_TYPE[space.task]
        settings.pad_token_id = encoder.tokenizer.pad_token_id
        settings.use_cache = False
        dtype = loading.choose_dtype(config.dtype, device)
        classifier = loading.load_classifier(
            context.base.path,
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
        check_labels(folder, settings, label_space)
        _check_adapter(folder, len(label_space), settings.hidden_size)
        device = processes().device
        dtype = getattr(torch, meta["dtype"])
        base = check_base(folder, meta)
        classifier = loading.load_classifier(
            base.path,
            settings,
            dtype=dtype,
            device=device,
            quantization=meta["quantization"],
            nf4_backend=meta["nf4_backend"],
        )
        packed = loading.enable_packing(classifier)
        model = attach_adapter(classifier, folder)
        model.requires_grad_(False)
        fuse(model)
        model.eval()
        return HeadScorer(HeadModel(model, packed), encoder, default_max_tokens(settings, dtype, device))


def make_encoder(path: str, config: RunConfig, revision: str | None = None) -> TextEncoder:
    """The tokenizer of a base model with the configured template written into it."""
    tokenizer = loading.load_tokenizer(path, trust_remote_code=config.trust_remote_code)
    template = make_template(config.template_source, tokenizer)
    length = config.max_length or MAX_LENGTH
    install(template, tokenizer, length, config.truncation)
    return TextEncoder(tokenizer, template, length, config.truncation)


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
    shapes = adapter_shapes(path)
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
