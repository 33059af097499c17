"""Scores of method instruct by the documented lines of plain transformers and peft, one sequence per answer."""

from __future__ import annotations

import numpy as np
import torch


def plain_model(run):
    """The saved folder in plain transformers and peft: its tokenizer and model."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(run.base, dtype=torch.float32)
    return AutoTokenizer.from_pretrained(run.model), PeftModel.from_pretrained(base, run.model).eval()


def next_logprobs(model, ids):
    """Log-probabilities ``[tokens, vocabulary]`` of what follows each token."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)


def log_p(model, before, answer):
    """The sum of the answer's token log-probabilities, by one forward for this answer alone."""
    found = next_logprobs(model, [*before, *answer[:-1]])[len(before) - 1 :]
    return sum(float(found[i, token]) for i, token in enumerate(answer))


def prompt_ids(run, tokenizer, text):
    """The ids before an answer, from strings that this file spells out."""
    names = run.classifier.classes_
    if run.scorer.prompt.form == "each":
        front = "Say for every label whether it applies to the text.\n\nText: "
    elif run.scorer.prompt.form == "list":
        front = "Name the labels that apply to the text, in the order of this list:\n"
        front += "\n".join(names) + "\n\nText: "
    else:
        front = "Classify the text into one of these labels:\n" + "\n".join(names) + "\n\nText: "
    end = {"label": "\nLabel:", "each": "\nLabels:", "list": "\nLabels:"}[run.scorer.prompt.form]
    if run.scorer.prompt.text.format == "chat":
        front, end = f"<|start|><|im_start|>user\n{front}", "<|im_end|>\n<|im_start|>assistant\n"

    def ids(words, split=False):
        return tokenizer(words, add_special_tokens=False, split_special_tokens=split)["input_ids"]

    return [*ids(front.rstrip(" ")), *ids(" " + text, True), *ids(end)]


def answer_ids(run, tokenizer, words):
    lead = "" if run.scorer.prompt.text.format == "chat" else " "
    return [
        *tokenizer(lead + words, add_special_tokens=False, split_special_tokens=True)["input_ids"],
        tokenizer.eos_token_id,
    ]


def label_log_ps(run, tokenizer, model, text):
    before = prompt_ids(run, tokenizer, text)
    return np.array(
        [log_p(model, before, answer_ids(run, tokenizer, name)) for name in run.classifier.classes_]
    )
