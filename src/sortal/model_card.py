"""The model card: what the folder is, how good it was measured to be, and how to use it, filled from the run."""

from __future__ import annotations

from typing import Any

_LOADING = {
    "head": "Plain transformers and peft load this folder too and give the same scores, without that step.",
    "probe": "The model it was read from stays as it is: the folder holds a linear layer on the states of its first layers, in probe.safetensors, and names that model.",
    "encoder": "The folder is a complete model: plain transformers loads it without Sortal (docs/how-to/load-with-transformers.md).",
    "tfidf": "The weights are in tfidf.safetensors, the n-grams they belong to in tfidf.json.",
    "majority": "Every text gets the same answer, from the label counts in majority.json: a floor for other methods.",
    "instruct": "The folder is a causal language model's LoRA adapter: plain transformers and peft load it and generate the same answers. The prompt is in sortal.json.",
}


def model_card(meta: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Markdown for ``README.md`` of a model folder.

    Args:
        meta: the content of ``sortal.json``.
        metrics: the content of ``metrics.json``.
    """
    base, single = meta["base_model"], meta["task"] == "single"
    lines = [
        f"# {'Single' if single else 'Multi'}-label text classifier, {len(meta['labels'])} labels",
        "",
        f"Method `{meta['method']}`{_on(base)}. Made by Sortal {meta['versions']['sortal']}.",
        *([f"Base weights: {base['note']}."] if base and base["note"] else []),
        "",
        f"Measured on {metrics['n']:,} test rows, seed {meta['seed']}. Intervals: {metrics['interval_method']}.",
        "",
        "| figure | value | 95 % interval |",
        "|---|---|---|",
    ]
    for key in ("accuracy" if single else "f1_micro", "f1_macro", "ece"):
        low_high = metrics["intervals"].get(key)
        shown = f"{low_high[0]:.4f} – {low_high[1]:.4f}" if low_high else "–"
        lines.append(f"| {key} | {metrics[key]:.4f} | {shown} |")
    lines += [
        "",
        "```python",
        "import sortal",
        "",
        'sortal.load("path/to/this/folder").predict(["a text"])',
        "```",
        "",
        f"{_decision(meta['decision'])} {_LOADING[meta['method']]}",
        "",
    ]
    return "\n".join(lines)


def _on(base: dict[str, Any] | None) -> str:
    if base is None:
        return ", without a pretrained model"
    return f" on `{base['spec']}` (licence of the base model: {base['licence'] or 'unknown'})"


def _decision(decision: dict[str, Any]) -> str:
    parts = [f"Probabilities are calibrated with temperature {decision['temperature']:.3f}, fitted on dev"]
    if decision.get("thresholds"):
        parts.append("labels are given above thresholds tuned on dev")
    if decision.get("abstain_below") is not None:
        parts.append(f"below {decision['abstain_below']} the answer is null")
    return "; ".join(parts) + "."
