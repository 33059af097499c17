"""One run from data to a model folder: read, split, fit, decide, evaluate, save. The functions read in that order."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sortal import model_folder
from sortal.backbone.fingerprint import weights_fingerprint
from sortal.backbone.sources import ModelSource, lasting, resolve
from sortal.classifier import Classifier
from sortal.config import RunConfig, resolve_sizes
from sortal.data.dataset import Dataset
from sortal.data.problems import counted
from sortal.errors import ConfigError, Interrupted, SortalError, TrainingDivergedError
from sortal.evaluation.decision import Decision
from sortal.methods import get_method
from sortal.methods.base import FitContext
from sortal.model_card import model_card
from sortal.parts import Parts, read_parts
from sortal.provenance import command_line, environment, versions
from sortal.run_members import train_members
from sortal.run_outcome import Say, decide, evaluate_test, keep_dev, score_test, seconds_alone
from sortal.training.atomic import atomic_folder, remove_leftovers, write_json
from sortal.training.checkpoints import CheckpointStore
from sortal.training.distributed import Processes, processes
from sortal.training.identity import RunIdentity, check_same_run, result_settings
from sortal.training.lock import FolderLock
from sortal.training.logs import open_log
from sortal.training.progress import NoProgress, TerminalProgress
from sortal.training.runfolder import FolderState, RunFolder, default_out
from sortal.training.signals import StopRequest
from sortal.tuned import check_tfidf, check_tuned, take


@dataclass(frozen=True)
class Result:
    """A finished run: its folder, its classifier and the content of metrics.json (empty without test rows) and run.json."""

    folder: Path
    classifier: Classifier
    metrics: dict[str, Any]
    record: dict[str, Any]


def run(
    config: RunConfig,
    *,
    data: Mapping[str, Dataset] | Parts | None = None,
    resume: bool = False,
    force: bool = False,
    consent: bool = False,
    tuned: str | Path | None = None,
    tfidf: str | Path | None = None,
    say: Say | None = None,
    quiet: bool = False,
) -> Result:
    """Train a classifier and write its run folder.

    Args:
        data: rows in memory instead of the files of ``config`` (see `read_parts`), or the parts of the ensemble that this run is a member of.
        resume: continue the run in ``config.out``; a finished one is loaded and returned.
        force: resume although data, labels, model, seed or settings differ.
        consent: accept the terms of a base model that asks for it.
        tuned: with a blend, a finished run that is this one without it: its model is taken instead of trained again.
        tfidf: with a blend, a finished run of ``tfidf`` on the same rows: its model is taken instead of fitted again.
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
            folder.state()  # a folder of another kind is refused before anything is written there
            missing = [path for path in (folder.path, *folder.path.parents) if not path.exists()]
            stack.callback(_remove_empty, missing)
            stack.enter_context(FolderLock(folder.path))
            remove_leftovers(folder.path)
        found = group.share_object(folder.prepare(resume) if group.main else None)
        if found == "finished":
            say(f"{folder.path} is finished already; nothing to do")
            return _load_finished(folder)
        try:
            return _run(config, data, folder, group, resume, force, consent, tuned, tfidf, say, quiet)
        except BaseException as error:
            if group.main:
                _leave(folder, found, error)
            raise


def _leave(folder: RunFolder, found: FolderState, error: BaseException) -> None:
    """What an unfinished run leaves: nothing before its first checkpoint or member, afterwards the reason in run.json."""
    diverged = isinstance(error, TrainingDivergedError)  # its figures are worth keeping
    expected = isinstance(error, SortalError | KeyboardInterrupt | SystemExit)
    if found == "new" and expected and not diverged and not folder.holds_work:
        folder.discard()
    elif found == "unfinished" and isinstance(error, SortalError) and error.exit_code == 2:
        return  # resuming was asked for in a wrong way, which says nothing about the run itself
    elif isinstance(error, Interrupted | KeyboardInterrupt | SystemExit):
        folder.fail(error.what if isinstance(error, Interrupted) else "stopped by a signal", "stopped")
    elif isinstance(error, TrainingDivergedError):
        folder.fail(error.what, training=error.figures)
    else:
        folder.fail(error.what if isinstance(error, SortalError) else f"{type(error).__name__}: {error}")


def _remove_empty(folders: list[Path]) -> None:
    """Remove the folders made for a run that left nothing in them, innermost first."""
    for path in folders:
        with suppress(OSError):
            path.rmdir()


def _run(
    config: RunConfig,
    data: Mapping[str, Dataset] | Parts | None,
    folder: RunFolder,
    group: Processes,
    resume: bool,
    force: bool,
    consent: bool,
    tuned: str | Path | None,
    tfidf: str | Path | None,
    say: Say,
    quiet: bool,
) -> Result:
    began = time.time()
    _set_threads(config)
    parts = data if isinstance(data, Parts) else read_parts(config, say, data)
    space = parts.label_space
    _check_task(config, parts)
    method = get_method(config.method)
    if config.blend == "auto":
        from sortal.methods.blend import settled_blend  # scikit-learn takes a second to import

        config = config.model_copy(update={"blend": settled_blend(config, parts, say)})
    source, settled = None, config
    if method.in_steps:
        settled = _sized(config, len(parts.train), say)
    if method.has_base:
        source = _resolve_once(config, group, consent, say)
    identity = RunIdentity(
        parts.fingerprints(),
        space.names,
        None if source is None else config.base_model,
        None if source is None else source.revision or weights_fingerprint(source.path),
        config.seed,
        result_settings(config.model_dump(mode="json"), space.tree),
    )
    for option, taken, check in (("--tuned", tuned, check_tuned), ("--tfidf", tfidf, check_tfidf)):
        if taken is not None:
            if config.blend == "none":
                raise ConfigError(
                    f"{option} is for a blend, and blend is none", "leave it out, or say blend=tfidf"
                )
            check(RunFolder(taken), identity)
    if group.main:
        if resume and folder.run_json.exists() and folder.holds_work:
            saved = folder.read_run_json().get("identity")
            for line in check_same_run(RunIdentity.from_json(saved), identity, force) if saved else []:
                say(f"resuming although this differs — {line}")
        folder.start(
            settled.model_dump(mode="json"),
            identity.to_json(),
            command=command_line(),
            environment=environment(group),
        )
        parts.write(folder.path)
    group.barrier()
    store = CheckpointStore(folder.checkpoints, config.save_total_limit)
    if resume and not store.all() and not folder.members.exists():
        say(f"nothing to resume in {folder.path}: starting from the beginning")

    def train_member(own: RunConfig, going_on: bool) -> None:
        run(own, data=parts, resume=going_on, force=force, consent=consent, say=say, quiet=quiet)

    train_members(config, parts, group, force, say, train_member)
    stop = StopRequest()  # in force while the loop runs; outside it there is nothing a checkpoint could save
    view = NoProgress() if quiet or not group.main else TerminalProgress()
    with open_log(folder.logs if group.main else None) as on_log:
        context = FitContext(
            source, settled, parts.train, parts.dev, space, group, store, resume, stop, view, say, on_log
        )
        fitted = method.fit(context) if tuned is None else take(Path(tuned), context)
    if fitted.shifts_probabilities:
        fitted.figures["shifts_probabilities"] = True
    alone: dict[str, Any] = {}
    if config.blend == "tfidf":
        from sortal.methods.blend import blend_with_tfidf
        from sortal.methods.tfidf import TfidfMethod

        linear = TfidfMethod().fit(context) if tfidf is None else take(Path(tfidf), context)
        unblended, fitted = fitted, blend_with_tfidf(fitted, linear, context)
        if fitted.scorer is not unblended.scorer:
            alone = _alone(decide(unblended, parts, config, _silent), fitted.figures["blend"], config)
    decision = decide(fitted, parts, config, say)
    meta = _meta(config, parts, source, decision, folder) | alone
    classifier = Classifier(fitted.scorer, space, decision, meta)
    scored = score_test(fitted, parts.test, view)
    by_itself = seconds_alone(fitted.scorer, parts)  # in every process: they score together
    if not group.main:
        group.barrier()
        return Result(folder.path, classifier, {}, {})
    keep_dev(classifier, fitted.dev_scores, parts, folder)
    scores = scored.scores
    metrics = evaluate_test(classifier, scores, parts, config, folder, view) if len(scores) else {}
    record = {
        "base_model": meta["base_model"],
        "data": parts.summary(),
        "training": fitted.figures,
        "inference": {
            "texts": len(scores),
            "seconds": round(scored.seconds, 3),
            "texts_per_second": round(len(scores) / max(scored.seconds, 1e-9), 1),
            "seconds_per_text_alone": by_itself,
        },
        "seconds": round(time.time() - began, 1),
    }
    with atomic_folder(folder.model) as temporary:
        meta |= fitted.scorer.save(temporary)
        model_folder.write_meta(temporary, meta)
        card = model_card(meta, metrics, {**record, "config": settled.model_dump(mode="json")})
        (temporary / "README.md").write_text(card, encoding="utf-8")
    if metrics:
        write_json(folder.metrics_json, metrics)
    complete = (folder.model / "model.safetensors").exists()
    record["size_on_disk"] = {
        "model_bytes": _bytes(folder.model),
        # A folder with all weights needs no base to be loaded; an ensemble needs those of its members.
        "base_model_bytes": fitted.figures.get("base_model_bytes", 0)
        if source is None or complete
        else _bytes(Path(source.path)),
    }
    folder.finish(**record)
    group.barrier()
    return Result(folder.path, classifier, metrics, folder.read_run_json())


def _bytes(path: Path) -> int:
    """Bytes of the files in a folder, or of one file."""
    return sum(p.stat().st_size for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file())


def _check_task(config: RunConfig, parts: Parts) -> None:
    """Refuse settings that do not fit the labels before a model is fetched."""
    space = parts.label_space
    if space.task == "multi" and config.abstain_below is not None:
        raise ConfigError(
            "abstain_below is for single-label tasks; multi-label answers may already be empty",
            "leave it out, or say --task single",
        )
    get_method(config.method).check(config, parts.train, space)


def _sized(config: RunConfig, rows: int, say: Say) -> RunConfig:
    sizes = resolve_sizes(config, rows)
    steps = math.ceil(rows / sizes.batch_size)
    say(
        f"{counted(sizes.epochs, 'epoch')} of {counted(steps, 'step')} of {counted(sizes.batch_size, 'example')}"
    )
    return sizes


def _resolve_once(config: RunConfig, group: Processes, consent: bool, say: Say) -> ModelSource:
    """The base model: one process fetches and converts it, the others then find it in the cache."""
    spec, trust = config.base_model, config.trust_remote_code
    if group.main:
        resolve(spec, consent=consent, say=say, trust_remote_code=trust)
    group.barrier()
    source = resolve(spec, consent=consent, say=_silent, trust_remote_code=trust)
    say(f"base model {source.spec}{f' ({source.note})' if source.note else ''}")
    return source


def _meta(
    config: RunConfig, parts: Parts, source: ModelSource | None, decision: Decision, folder: RunFolder
) -> dict[str, Any]:
    return {
        "method": config.method,
        "task": parts.label_space.task,
        "labels": list(parts.label_space.names),
        **({"tree": tree.to_json()} if (tree := parts.label_space.tree) else {}),
        **(
            {}
            if config.hierarchy == "flat"
            else {"hierarchy": config.hierarchy, "level_weights": list(config.level_weights)}
        ),
        "decision": decision.to_json(),
        "schema": parts.train.schema.to_json(),
        **({"base_model": None} if source is None else _base(config, source)),
        "data_fingerprints": parts.fingerprints(),
        "training_rows": parts.frequencies().to_json(),
        "seed": config.seed,
        "run_folder": str(folder.path),
        "versions": versions(),
    }


def _alone(decision: Decision, figures: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
    """What an export of a blend's tuned model needs, and what it is told to cost."""
    metric = config.metric_for_best_model
    dev = {"metric": metric, "alone": figures[f"tuned_{metric}"], "blended": figures[metric]}
    return {"without_blend": {"decision": decision.to_json(), "dev": dev}}


def _base(config: RunConfig, source: ModelSource) -> dict[str, Any]:
    return {
        "base_model": {
            "spec": lasting(config.base_model),
            "revision": source.revision,
            "fingerprint": weights_fingerprint(source.path),
            "licence": source.licence,
            "note": source.note,
        },
        "quantization": config.quantization,
        "nf4_backend": config.nf4_backend,
    }


def _load_finished(folder: RunFolder) -> Result:
    import json

    from sortal.classifier import load

    measured = folder.metrics_json.exists()
    metrics = json.loads(folder.metrics_json.read_text(encoding="utf-8")) if measured else {}
    return Result(folder.path, load(folder.model), metrics, folder.read_run_json())


def _set_threads(config: RunConfig) -> None:
    import torch

    if config.threads:
        torch.set_num_threads(config.threads)
    np.random.seed(config.seed)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def _stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    del line
