"""The model card: what the folder is, how good it was measured to be, and how to use it, filled from the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sortal.config import says_something
from sortal.evaluation.words import calibration, left_out, test_rows
from sortal.markdown import safe, table

_LOADING = {
    "head": "Plain transformers and peft load this folder too and give the same scores, without that step.",
    "probe": "The model it was read from stays as it is: the folder holds a linear layer on the states of its first layers, in probe.safetensors, and names that model.",
    "encoder": "The folder is a complete model: plain transformers loads it without Sortal (docs/how-to/load-with-transformers.md).",
    "tfidf": "The weights are in tfidf.safetensors, the n-grams they belong to in tfidf.json.",
    "ensemble": "It adds the scores of the models in members/, each with the weight in sortal.json, and every text is read by all of them: load it with Sortal.",
    "majority": "Every text gets the same answer, from the label counts in majority.json: a floor for other methods.",
    "instruct": "The folder is a causal language model's LoRA adapter: plain transformers and peft load it and generate the same answers. The prompt is in sortal.json.",
}
_MEAN_HEAD = (
    "It reads the mean over a text's tokens, which plain transformers has no place for: load it with Sortal."
)
_BLEND = "Its scores are the tuned model's and those of a linear model on TF-IDF features, added: load it with Sortal, plain transformers gives the first alone."
_TREE = "The labels form a tree of {nodes:,} nodes, {levels} levels deep: no label is more probable than the one above it, and a label comes with those above it. Load it with Sortal: plain transformers gives scores without the tree."
_SETTINGS = (
    "preset",
    "epochs",
    "batch_size",
    "learning_rate",
    "lora_r",
    "quantization",
    "template",
    "truncation",
)
_FOUND = ("model", "c", "features", "layer", "pooling", "best_step")
_LABELS, _NAMED, _RARE = 30, 5, 10


def model_card(meta: Mapping[str, Any], metrics: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Markdown for ``README.md`` of a model folder.

    Args:
        meta: the content of ``sortal.json``.
        metrics: the content of ``metrics.json``; empty when there were no test rows.
        record: ``config``, ``data`` and ``training`` of ``run.json``.
    """
    base = meta["base_model"]
    lines = [
        f"# {'Single' if meta['task'] == 'single' else 'Multi'}-label text classifier, {len(meta['labels'])} labels",
        "",
        f"Method `{meta['method']}`{_of(meta) if 'members' in meta else _on(base)}. Made by Sortal {meta['versions']['sortal']}.",
        *([f"Base weights: {base['note']}."] if base and base["note"] else []),
        "",
        "```python",
        "import sortal",
        "",
        'sortal.load("path/to/this/folder").predict(["a text"])',
        "```",
        "",
        f"{_decision(meta['decision'])} {_loading(meta)}",
        "",
        "## How good",
        "",
        *(_figures(meta, metrics) if metrics else ["Not measured: no rows were kept for a test."]),
        "",
        "## Use and limits",
        "",
    ]
    lines += [f"- {line}" for line in _limits(meta, metrics, record)]
    lines += ["", "## Training", "", _training(meta, record), "", *_data(record), ""]
    return "\n".join(lines)


def _of(meta: Mapping[str, Any]) -> str:
    members = [
        member["method"] + (_on(member["base_model"]) if member["base_model"] else "") for member in meta["members"]
    ]  # fmt: skip
    return f" of {' and '.join(members)}"


def _on(base: Mapping[str, Any] | None) -> str:
    if base is None:
        return ", without a pretrained model"
    return f" on `{base['spec']}` (licence of the base model: {base['licence'] or 'unknown'})"


def _loading(meta: Mapping[str, Any]) -> str:
    if (tree := meta.get("tree")) and (meta["task"] == "multi" or "hierarchy" in meta):
        return _TREE.format(nodes=len(tree["nodes"]), levels=len(tree["levels"]))
    if "blend" in meta:
        return _BLEND
    mean_head = meta["method"] == "head" and meta.get("pooling") == "mean"
    return _MEAN_HEAD if mean_head else _LOADING[meta["method"]]


def _decision(decision: Mapping[str, Any]) -> str:
    parts = [f"Probabilities are calibrated with temperature {decision['temperature']:.3f}, fitted on dev"]
    if decision.get("thresholds"):
        parts.append("labels are given above thresholds tuned on dev")
    if decision.get("abstain_below") is not None:
        parts.append(f"below {decision['abstain_below']} the answer is null")
    return "; ".join(parts) + "."


def _figures(meta: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Measured on {test_rows(metrics['n'], metrics.get('groups'))}, seed {meta['seed']}. Intervals: {metrics['interval_method']}.",
        "",
        "| figure | value | 95 % interval |",
        "|---|---|---|",
    ]
    of_tree = ("h_f1",) if "h_f1" in metrics else ()
    for key in ("accuracy" if meta["task"] == "single" else "f1_micro", "f1_macro", *of_tree, "ece"):
        low_high = metrics["intervals"].get(key)
        shown = f"{low_high[0]:.4f} – {low_high[1]:.4f}" if low_high else "–"
        lines.append(f"| {key} | {metrics[key]:.4f} | {shown} |")
    return [*lines, "", *_labels(metrics)]


def _labels(metrics: Mapping[str, Any]) -> list[str]:
    entries = sorted(metrics["per_label"], key=lambda e: (e["support"] == 0, e["f1"], -e["support"]))
    rows = [
        [e["label"], *(f"{e[key]:.3f}" for key in ("f1", "precision", "recall")), f"{e['support']:,}"]
        for e in entries[:_LABELS]
    ]
    left = len(entries) - len(rows)
    more = [f"The labels with the lowest F1; {left:,} others are left out.", ""] if left else []
    return [*more, *table(["label", "F1", "precision", "recall", "test rows"], rows, "lrrrr")]


def _limits(meta: Mapping[str, Any], metrics: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """What the measurements themselves say about when not to rely on the model."""
    entries, training = metrics.get("per_label", []), record["training"]
    answers = (
        "A text may get no label."
        if meta["task"] == "multi"
        else "A text gets one of the labels even when none fits."
    )
    if meta["decision"].get("abstain_below") is not None:
        answers = "A text whose best label is not probable enough gets none."
    lines = [f"For texts like those it was trained {'and tested on; others were not measured' if metrics else 'on'}. {answers}"]  # fmt: skip
    if metrics:
        if metrics.get("left_out"):
            lines.append(left_out(metrics["left_out"]))
        lines.append(calibration(metrics))
    if rare := sum(1 for e in entries if e["support"] < _RARE):
        lines.append(f"Labels with fewer than {_RARE} test rows, whose own figures say little: {rare:,} of {len(entries):,}.")  # fmt: skip
    if never := [e["label"] for e in entries if e["support"] and not e["predicted"]]:
        shown = ", ".join(safe(name) for name in never[:_NAMED])
        lines.append(f"Labels that have test rows and were never given: {len(never):,} ({shown}{', …' if len(never) > _NAMED else ''}).")  # fmt: skip
    if cut := training.get("truncated_train_rows"):
        share = cut / record["data"]["train"]["rows"]
        lines.append(f"{share:.1%} of the training texts were longer than the model reads, and were cut.")
    if nearest := meta.get("nearest_shots"):
        lines.append(f"Before every text it reads {nearest} training rows: the folder holds up to 64 tokens of every training text, its words and its labels, for whoever has it.")  # fmt: skip
    lines.append("One training run: another seed would give somewhat different figures.")
    return lines


def _training(meta: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    config, training = record["config"], record["training"]
    facts = {
        key: config[key]
        for key in _SETTINGS
        if config.get(key) is not None and says_something(key, {**config, "method": meta["method"]})
    }
    facts |= {key: training[key] for key in _FOUND if key in training}
    if meta.get("max_length"):
        facts["max_length"] = meta["max_length"]
    if long := meta.get("long_texts"):
        if long["sections"]:
            facts["sections"] = " + ".join(f"{safe(name)} {budget}" for name, budget in long["sections"])
        if long["windows"] > 1:
            facts |= {key: long[key] for key in ("windows", "stride", "aggregation")}
    said = ", ".join(f"{key} {value}" for key, value in facts.items())
    return f"Method `{meta['method']}`, seed {meta['seed']}{f': {said}' if said else ''}. All settings are in the run's `run.json`."


def _data(record: Mapping[str, Any]) -> list[str]:
    rows = [
        [part, f"{record['data'][part]['rows']:,}", record["data"][part]["fingerprint"]]
        for part in ("train", "dev", "test")
    ]
    return table(["part", "rows", "SHA-256 of texts and labels"], rows, "lrl")
