"""`export`: a model folder written for another runtime, loaded there and compared with itself before it is published."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sortal.backbone.environment import folder_bytes
from sortal.backbone.held import HeldWeights
from sortal.classifier import load
from sortal.errors import ConfigError, ModelError, ResourceError
from sortal.exporting.agreement import Agreement, compare
from sortal.exporting.formats import Format, get_format
from sortal.exporting.reference import parameters, reference, tuned_scorer
from sortal.exporting.subject import Subject, read_subject, told_apart
from sortal.exporting.texts import CheckTexts, check_texts
from sortal.provenance import versions
from sortal.training.atomic import atomic_folder, write_json, write_text
from sortal.training.progress import NoProgress, ProgressView

NAME = "export.json"
# Largest |Δp| that is let through, by what is stored. fp32 differs by rounding alone; the others by what their bits can hold.
LIMITS = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.1, "int8": 0.3}


@dataclass(frozen=True)
class Export:
    """A published export.

    folder: where it is. bytes: its size. checked: what it was compared on, in words. agreement: with Sortal's answers in fp32.
    as_run: with the answers in the run's own dtype; None when that is fp32. limit: of ``agreement["largest"]``.
    seconds: of writing, and of everything.
    """

    folder: str
    format: str
    method: str
    dtype: str
    runtime: str
    bytes: int
    checked: str
    agreement: dict[str, Any]
    as_run: dict[str, Any] | None
    limit: float
    write_seconds: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)


def export(
    model_dir: str | Path,
    *,
    to: str,
    out: str | Path | None = None,
    data: str | None = None,
    rows: int = 200,
    dtype: str | None = None,
    int8: bool = False,
    max_difference: float | None = None,
    without_blend: bool = False,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
    view: ProgressView | None = None,
) -> Export:
    """Write ``model_dir`` for another runtime, load it there, compare the answers, and publish it when they agree.

    Args:
        model_dir: the ``model`` folder of a run.
        to: ``hf``, ``vllm``, ``adapter``, ``onnx`` or ``gguf``.
        out: the new folder; default: ``model_dir`` with ``-`` and the format's name after it.
        data: a file with texts to compare on; default: the run's own test and dev rows, when they can still be read.
        rows: how many of them.
        dtype: in which weights are stored: ``float32`` (default), ``float16``, ``bfloat16``.
        int8: weights in 8 bits (``onnx``, ``gguf``).
        max_difference: largest |Δp| of any label of any row; default: `LIMITS`.
        without_blend: of a blend, export the tuned model without the linear model, whose answers are then missing.
        force: replace an earlier export in ``out``.

    Raises:
        ModelError: the format cannot express the model, or the answers differ by more than the limit; nothing is left.
        ConfigError: unknown format or dtype, or ``out`` is in use. MissingDependencyError: a package is not installed.
        ResourceError: no room on the disk.
    """
    began = time.monotonic()
    view = view or NoProgress()
    form, folder = get_format(to), Path(model_dir)
    target = Path(out) if out is not None else folder.with_name(f"{folder.name}-{to}")
    subject = read_subject(folder, to, dtype, int8=int8, without_blend=without_blend)
    form.check(subject)
    limit = _limit(subject, max_difference)
    _check_target(target, folder, force)
    if rows < 1:
        raise ConfigError(f"{rows} rows cannot be compared", "use --rows 1 or more")

    with (
        HeldWeights().sharing()
    ):  # which leaves adapters beside the weights: a sum in 16 bits has no fp32 arithmetic
        classifier = load(folder)
    scorer = tuned_scorer(classifier)
    _check_room(target, form.size(subject, parameters(scorer)))
    texts = check_texts(subject, classifier, data, rows)
    say(f"to compare on: {_described(texts)}")
    if "blend" in subject.meta:
        say(f"the linear model that is blended in is left out: {told_apart(subject.meta)}")
    say("scoring them as Sortal does")
    ours = reference(scorer, subject.decision, texts.texts, view)
    if max_difference is None and not ours.is_exact:
        limit = max(limit, LIMITS["bfloat16"])
    del classifier, scorer  # the export's own weights come next, and both need not fit
    gc.collect()

    with atomic_folder(target) as temporary:
        say(f"writing {target}")
        started = time.monotonic()
        form.write(subject, temporary)
        written = round(time.monotonic() - started, 1)
        say(f"asking the export, in {form.runtime}")
        theirs = form.probabilities(subject, temporary, texts.texts, view)
        found = compare(ours.exact, theirs, subject.decision)
        _hold(found, limit, texts, subject)
        made = Export(
            folder=str(target),
            format=to,
            method=subject.method,
            dtype=subject.stored,
            runtime=form.runtime,
            bytes=folder_bytes(temporary),
            checked=_described(texts),
            agreement=found.to_json(),
            as_run=None if ours.as_run is None else compare(ours.as_run, theirs, subject.decision).to_json(),
            limit=limit,
            write_seconds=written,
            seconds=round(time.monotonic() - began, 1),
        )
        write_json(temporary / NAME, _record(made, subject, form))
        write_text(temporary / "README.md", _readme(made, subject, form))
    return made


def _limit(subject: Subject, asked: float | None) -> float:
    if asked is None:
        return LIMITS[subject.stored]
    if not 0 <= asked <= 1:
        raise ConfigError(
            f"max_difference is {asked}, and probabilities differ by 0 to 1", "use for example 0.01"
        )
    return asked


def _check_target(target: Path, folder: Path, force: bool) -> None:
    if target.resolve() == folder.resolve():
        raise ConfigError(
            f"--out {target} is the model folder itself", "leave --out out, or name another folder"
        )
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / NAME).is_file():
        raise ConfigError(f"{target} exists and is not an export", "choose another --out")
    if not force:
        raise ConfigError(f"{target} holds an export", "replace it with --force, or choose another --out")


def _check_room(target: Path, needed: int) -> None:
    place = next(path for path in target.absolute().parents if path.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ResourceError(
            f"{target} needs about {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free in {place}",
            "free some space there, or choose an --out on another disk",
        )


def _described(texts: CheckTexts) -> str:
    return f"{texts.rows} texts from {texts.source}, and {len(texts.texts) - texts.rows} hard ones"


def _hold(found: Agreement, limit: float, texts: CheckTexts, subject: Subject) -> None:
    """Refuse answers that are too far from Sortal's."""
    if found.largest <= limit:
        return
    text = texts.texts[found.worst]
    shown = text if len(text) <= 80 else f"{text[:77]}…"
    raise ModelError(
        f"the export in {subject.stored} gives other answers: {found.agreeing} of {found.rows} decisions agree, and a probability differs by "
        f"{found.largest:.4f}, more than {limit:g} (text {shown!r}); nothing was written",
        "allow more with --max-difference"
        if subject.stored == "float32"
        else "store more exactly (float32, no --int8), or allow more with --max-difference",
    )


def _record(made: Export, subject: Subject, form: Format) -> dict[str, Any]:
    """The content of export.json."""
    name = Path(made.folder).name
    facts = form.facts(subject).items()
    return {
        **made.to_json(),
        **{key: value.replace("FOLDER", name) if isinstance(value, str) else value for key, value in facts},
        "model": str(subject.folder),
        "task": subject.space.task,
        "labels": list(subject.space.names),
        # The temperature is in the weights, where the format has a place for it; thresholds are the caller's.
        "decision": subject.decision.to_json(),
        "max_length": subject.max_length,
        "truncation": subject.meta.get("truncation"),
        "long_texts": subject.long,
        "base_model": subject.meta["base_model"],
        "blend": "left out" if "blend" in subject.meta else None,
        "versions": versions(),
    }


def _readme(made: Export, subject: Subject, form: Format) -> str:
    """How the folder is used, and how well it does."""
    found = made.agreement
    lines = [
        f"# {subject.method} classifier for {made.format}",
        "",
        form.notes(subject).replace("FOLDER", Path(made.folder).name),
        "## Checked",
        "",
        f"On {made.checked}, in {made.runtime}, beside Sortal in fp32: {found['agreeing']} of {found['rows']} decisions agree; "
        f"no probability differs by more than {found['largest']:.2g}.",
        "",
    ]
    if subject.decision.thresholds is not None:
        lines += [
            "Several labels per text: a label is given when its probability reaches its threshold, in `export.json` under `decision`, and not 0.5.",
            "",
        ]
    if subject.decision.abstain_below is not None:
        lines += [
            f"Below {subject.decision.abstain_below} for the best label, Sortal gives none (`abstain_below`).",
            "",
        ]
    if subject.method != "instruct" and subject.meta.get("truncation") == "head+tail":
        lines += [
            "Texts longer than `max_length` keep their head here and head and tail in Sortal: their answers may differ.",
            "",
        ]
    if subject.long is not None:
        lines += [*_of_long_texts(subject.long), ""]
    if "blend" in subject.meta:
        lines += [
            f"The linear model that Sortal blends in is left out: {told_apart(subject.meta)}.",
            "",
        ]
    return "\n".join(lines)


def _of_long_texts(long: dict[str, Any]) -> list[str]:
    """What the caller has to do for texts that this folder's runtime reads in another way than Sortal."""
    lines = []
    if long["sections"]:
        budgets = ", ".join(f"{name} {budget}" for name, budget in long["sections"])
        lines.append(
            f"Sortal cuts each section of a text for itself ({budgets}). Here a text is its sections, one per line and empty ones left "
            "out, cut as a whole: texts that fit `max_length` are read alike, of longer ones the answers may differ."
        )
    if long["windows"] > 1:
        lines.append(
            f"Sortal reads a text longer than `max_length` in up to {long['windows']} windows that share {long['stride']} tokens and takes "
            f"the {long['aggregation']} of their scores. Here a longer text is cut: for Sortal's answer, score the windows and combine their "
            "logits (instruct: the log-probabilities of the labels) so."
        )
    return lines
