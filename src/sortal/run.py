"""One run from data to a model folder: read, split, fit, decide, evaluate, save. The functions read in that order."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import sortal
from sortal import model_folder
from sortal.backbone.sources import ModelSource, resolve
from sortal.classifier import Classifier
from sortal.config import RunConfig
from sortal.errors import Interrupted, SortalError
from sortal.evaluation.decision import Decision
from sortal.evaluation.metrics import evaluate
from sortal.evaluation.predictions import write_predictions
from sortal.methods import get_method
from sortal.methods.base import FitContext, Fitted
from sortal.parts import Parts, read_parts
from sortal.training.atomic import atomic_folder, remove_leftovers, write_json
from sortal.training.checkpoints import CheckpointStore
from sortal.training.distributed import Processes, processes
from sortal.training.identity import RunIdentity, check_same_run, result_settings
from sortal.training.lock import FolderLock
from sortal.training.logs import open_log
from sortal.training.progress import NoProgress, TerminalProgress
from sortal.training.runfolder import RunFolder, default_out
from sortal.training.signals import StopRequest

Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """A finished run: its folder, its classifier and the content of metrics.json and run.json."""

    folder: Path
    classifier: Classifier
    metrics: dict[str, Any]
    record: dict[str, Any]


def run(
    config: RunConfig,
    *,
    resume: bool = False,
    force: bool = False,
    consent: bool = False,
    say: Say | None = None,
    quiet: bool = False,
) -> Result:
    """Train a classifier and write its run folder.

    Args:
        resume: continue the run in ``config.out``; a finished one is loaded and returned.
        force: resume although data, labels, model, seed or settings differ.
        consent: accept the terms of a base model that asks for it.
        say: gets every line meant for people; default: stderr.
        quiet: no progress bar.

    Raises:
        SortalError: with what is wrong, where, and what to do; nothing is left under a final name.
    """
    group = processes()
    say = (say or _stderr) if group.main else _silent
    out = group.share_object(
        config.out or str(default_out(config.data, config.method, config.seed, resume=resume))
    )
    config = config.model_copy(update={"out": out})
    folder = RunFolder(out)
    with ExitStack() as stack:
        if group.main:
            stack.enter_context(FolderLock(folder.path))
            remove_leftovers(folder.path)
        found = group.share_object(folder.prepare(resume) if group.main else None)
        if found == "finished":
            say(f"{folder.path} is finished already; nothing to do")
            return _load_finished(folder)
        if resume and found == "new":
            say(f"nothing to resume in {folder.path}: starting from the beginning")
        stop = stack.enter_context(StopRequest())
        try:
            return _run(config, folder, group, stop, resume, force, consent, say, quiet)
        except Interrupted:
            raise
        except SortalError as error:
            if group.main:
                folder.fail(str(error.what))
            raise


def _run(
    config: RunConfig,
    folder: RunFolder,
    group: Processes,
    stop: StopRequest,
    resume: bool,
    force: bool,
    consent: bool,
    say: Say,
    quiet: bool,
) -> Result:
    began = time.time()
    _set_threads(config)
    parts = read_parts(config, say)
    space = parts.label_space
    # One process fetches and converts; the others then find it in the cache.
    source = _resolve_once(config, group, consent, say)
    identity = RunIdentity(
        parts.fingerprints(),
        space.names,
        config.model,
        source.revision,
        config.seed,
        result_settings(config.model_dump(mode="json")),
    )
    if group.main:
        if resume and folder.run_json.exists() and folder.checkpoints.exists():
            saved = folder.read_run_json().get("identity")
            for line in check_same_run(RunIdentity.from_json(saved), identity, force) if saved else []:
                say(f"resuming although this differs — {line}")
        folder.start(
            config.model_dump(mode="json"),
            identity.to_json(),
            command=_command(),
            environment=environment(group),
        )
        parts.write(folder.path)
    group.barrier()
    store = CheckpointStore(folder.checkpoints, config.save_total_limit)
    view = NoProgress() if quiet or not group.main else TerminalProgress()
    with open_log(folder.logs if group.main else None) as on_log:
        fitted = get_method(config.method).fit(
            FitContext(
                config, parts.train, parts.dev, space, source, group, store, resume, stop, view, say, on_log
            )
        )
    decision = _decide(fitted, parts, config, say)
    meta = _meta(config, parts, source, decision, folder)
    classifier = Classifier(fitted.scorer, space, decision, meta)
    if not group.main:
        group.barrier()
        return Result(folder.path, classifier, {}, {})
    metrics, record = _evaluate(classifier, parts, config, folder, say)
    record |= {"training": fitted.figures, "data": parts.summary(), "seconds": round(time.time() - began, 1)}
    record["base_model"] = meta["base_model"]
    with atomic_folder(folder.model) as temporary:
        meta |= fitted.scorer.save(temporary)
        model_folder.write_meta(temporary, meta)
        (temporary / "README.md").write_text(_card(meta, metrics), encoding="utf-8")
    write_json(folder.metrics_json, metrics)
    folder.finish(**record)
    group.barrier()
    return Result(folder.path, classifier, metrics, folder.read_run_json())


def _resolve_once(config: RunConfig, group: Processes, consent: bool, say: Say) -> ModelSource:
    if group.main:
        resolve(config.model, consent=consent, say=say, trust_remote_code=config.trust_remote_code)
    group.barrier()
    source = resolve(config.model, consent=consent, say=_silent, trust_remote_code=config.trust_remote_code)
    say(f"base model {source.spec}{f' ({source.note})' if source.note else ''}")
    return source


def _decide(fitted: Fitted, parts: Parts, config: RunConfig, say: Say) -> Decision:
    gold = parts.label_space.encode(parts.dev)
    if fitted.shifts_probabilities and not config.temperature_scaling:
        say(
            "warning: class weights or focal loss shift the probabilities, and temperature scaling is off: they are not calibrated"
        )
    elif fitted.shifts_probabilities:
        say("class weights or focal loss shift the probabilities; they are recalibrated on dev")
    return Decision.fit(
        fitted.dev_scores,
        gold,
        parts.label_space.task,
        temperature_scaling=config.temperature_scaling,
        thresholds=config.thresholds,
        threshold_metric=config.threshold_metric,
        abstain_below=config.abstain_below,
        seed=config.seed,
    )


def _evaluate(
    classifier: Classifier, parts: Parts, config: RunConfig, folder: RunFolder, say: Say
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics of the test rows (dev rows where there is no test), predictions on disk, and inference speed."""
    rows, part = (parts.test, "test") if len(parts.test) else (parts.dev, "dev")
    if part == "dev":
        say("no test rows: the figures are on dev, which chose weights and thresholds, and are optimistic")
    began = time.monotonic()
    scores = classifier.scorer.score(rows.iter_texts())
    seconds = time.monotonic() - began
    gold = classifier.label_space.encode(rows)
    probabilities = classifier.decision.probabilities(scores)
    write_predictions(
        folder.predictions,
        rows.ids,
        probabilities,
        classifier.decision.decide(probabilities),
        classifier.label_space,
        gold=gold,
    )
    metrics = evaluate(
        scores,
        gold,
        classifier.decision,
        classifier.label_space,
        n_resamples=config.n_resamples,
        seed=config.seed,
    )
    metrics = {"split": part, **metrics}
    return metrics, {
        "inference": {
            "texts": len(rows),
            "seconds": round(seconds, 3),
            "texts_per_second": round(len(rows) / max(seconds, 1e-9), 1),
        }
    }


def _meta(
    config: RunConfig, parts: Parts, source: ModelSource, decision: Decision, folder: RunFolder
) -> dict[str, Any]:
    return {
        "method": config.method,
        "task": parts.label_space.task,
        "labels": list(parts.label_space.names),
        "decision": decision.to_json(),
        "schema": parts.train.schema.to_json(),
        "base_model": {
            "spec": config.model,
            "revision": source.revision,
            "licence": source.licence,
            "note": source.note,
        },
        "quantization": config.quantization,
        "nf4_backend": config.nf4_backend,
        "data_fingerprints": parts.fingerprints(),
        "seed": config.seed,
        "run_folder": str(folder.path),
        "versions": versions(),
    }


def _load_finished(folder: RunFolder) -> Result:
    import json

    from sortal.classifier import load

    metrics = json.loads(folder.metrics_json.read_text(encoding="utf-8"))
    return Result(folder.path, load(folder.model), metrics, folder.read_run_json())


def _card(meta: dict[str, Any], metrics: dict[str, Any]) -> str:
    headline = "accuracy" if meta["task"] == "single" else "f1_micro"
    lines = [
        f"# {meta['task']}-label text classifier, {len(meta['labels'])} labels",
        "",
        f"Method `{meta['method']}` on `{meta['base_model']['spec']}` (licence of the base model: {meta['base_model']['licence'] or 'unknown'}).",
        *([f"Weights: {meta['base_model']['note']}."] if meta["base_model"]["note"] else []),
        "",
        f"Measured on {metrics['n']:,} {metrics['split']} rows, seed {meta['seed']}, 95 % intervals ({metrics['interval_method']}):",
        "",
        "| figure | value | interval |",
        "|---|---|---|",
    ]
    for key in (headline, "f1_macro", "ece"):
        low_high = metrics["intervals"].get(key)
        lines.append(
            f"| {key} | {metrics[key]:.4f} | {f'{low_high[0]:.4f} – {low_high[1]:.4f}' if low_high else '–'} |"
        )
    lines += [
        "",
        "```python",
        "import sortal",
        'sortal.load("path/to/this/folder").predict(["a text"])',
        "```",
        "",
    ]
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    found = {"sortal": sortal.__version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "bitsandbytes"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment(group: Processes) -> dict[str, Any]:
    """The machine and the libraries of a run."""
    import torch

    device = (
        torch.cuda.get_device_name(group.device)
        if group.device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "versions": versions(),
        "device": device,
        "processes": group.world,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }


def _set_threads(config: RunConfig) -> None:
    import torch

    if config.threads:
        torch.set_num_threads(config.threads)
    np.random.seed(config.seed)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def _command() -> list[str]:
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def _stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    del line
