"""Exported causal language models: asked through the prompt of the model folder, and requests for servers that generate."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

from sortal.backbone.language_model import LanguageModel, enable_trees
from sortal.exporting.formats import Floats
from sortal.exporting.subject import Subject
from sortal.methods.instruct import saved_prompt
from sortal.methods.instruct_scorer import InstructScorer, Scoring
from sortal.methods.nearest_shots import NearestShots
from sortal.prompting.prompt import Prompt
from sortal.prompting.shortlist import Shortlist
from sortal.training.budget import default_max_tokens
from sortal.training.distributed import processes
from sortal.training.progress import ProgressView

EXAMPLE = "The text to classify."
REQUEST = "request.json"
SERVED = "sortal"  # what the model is called in requests


def probabilities(subject: Subject, load: Callable[[], Any], texts: list[str], view: ProgressView) -> Floats:
    """Probabilities ``[n, labels]`` under the model that ``load`` gives, by the prompt of the folder and exact scoring of every label."""
    device = processes().device
    model = load().to(device).eval().requires_grad_(False)
    shares = enable_trees(model)
    meta = subject.meta
    scorer = InstructScorer(
        LanguageModel(model, shares),
        read_prompt(subject),
        len(subject.space),
        Scoring(**meta["scoring"]),
        default_max_tokens(model.config, torch.float32, device),
        None if meta["shortlist"] is None else Shortlist.load(subject.folder),
        frozen=True,
        nearest=NearestShots.load(subject.folder) if "nearest_shots" in meta else None,
    )
    return subject.decision.probabilities(scorer.score(texts, view))


def read_prompt(subject: Subject) -> Prompt:
    """The prompt of an ``instruct`` folder."""
    return saved_prompt(subject.folder, subject.meta, subject.space)


def words_before(prompt: Prompt, text: str) -> str:
    """The prompt around ``text`` as one string, up to the answer."""
    words = prompt.text
    listed = ("\n" if words.one_per_line else ", ").join(prompt.verbalizer.listed)
    pieces = [words.before, listed if words.lists_labels else "", words.between]
    for shot in prompt.shots:
        shown = (words.example or "").replace("{answer}", prompt.listed_answer(shot.labels))
        pieces.append(shown.replace("{text}", shot.text))
    return "".join([*pieces, words.query, text, words.after.rstrip(" ")])


def adds_first_token(prompt: Prompt) -> bool:
    """Whether a server has to put the tokenizer's own first token before `words_before`, which may begin with it already."""
    words = words_before(prompt, EXAMPLE)
    plain = prompt.tokenizer(words, add_special_tokens=False)["input_ids"]
    return bool(prompt.head.tolist()[:1] != plain[:1])


def answer_choices(prompt: Prompt) -> list[str]:
    """What the model may say, with the white space of its first token; form ``each``: yes or no."""
    if prompt.form == "each":
        return [" yes", " no"]
    lead = "" if prompt.text.format == "chat" or prompt.text.after.rstrip(" ")[-1:].isspace() else " "
    return [f"{lead}{answer}" for answer in prompt.verbalizer.answers]


def vllm_request(subject: Subject) -> dict[str, Any]:
    """A body for vLLM's ``/v1/completions`` that can only be answered with labels."""
    prompt = read_prompt(subject)
    return {
        "model": SERVED,
        "prompt": _asked(prompt),
        "add_special_tokens": adds_first_token(prompt),
        "max_tokens": prompt.longest_answer,
        "temperature": 0,
        "structured_outputs": _constraint(prompt),
    }


def llama_cpp_request(subject: Subject) -> dict[str, Any]:
    """A body for llama.cpp's ``/completion`` that can only be answered with labels."""
    prompt = read_prompt(subject)
    return {
        "prompt": _asked(prompt),
        "n_predict": prompt.longest_answer,
        "temperature": 0,
        "grammar": grammar(prompt),
    }


def grammar(prompt: Prompt) -> str:
    """The answers in llama.cpp's GBNF."""
    answers = " | ".join(_quoted(words) for words in answer_choices(prompt))
    if prompt.form != "list":
        return f"root ::= ({answers})"
    later = " | ".join(_quoted(f"{prompt.separator_text} {each}") for each in prompt.verbalizer.answers)
    return f"root ::= ({answers}) ({later})*"


def answer_facts(subject: Subject) -> dict[str, Any]:
    """For ``export.json``: the label of every answer and, in form ``each``, how a prompt ends that asks for it."""
    prompt = read_prompt(subject)
    found: dict[str, Any] = {
        "architecture": "ForCausalLM",
        "answers": dict(zip(prompt.verbalizer.answers, subject.space.names, strict=True)),
    }
    if prompt.form == "each":
        found["ask_for_each_label"] = [
            f"{_each_lead(prompt)}{answer}:" for answer in prompt.verbalizer.answers
        ]
    return found


def cautions(subject: Subject, server: str) -> str:
    """What ``request.json`` is, and where a server's answers may differ from Sortal's."""
    prompt = read_prompt(subject)
    lines = [
        f"`{REQUEST}` is a request for {server}: put the text where {EXAMPLE!r} stands. `export.json` names the label of every answer.",
        "A server decodes token by token and keeps the best one each time; Sortal scores whole labels, so a label whose first token is "
        "likely and whose rest is not can win there and not here. Sortal cuts long texts; a server reads them whole.",
    ]
    if prompt.form == "each":
        lines.append(
            "Ask once for every label, with its line of `ask_for_each_label` in `export.json` at the prompt's end; the answer is yes or no."
        )
    if subject.meta["shortlist"] is not None:
        lines.append(
            "This model was tuned with a shortlist: Sortal lists the likeliest labels of each text, the request all of them."
        )
    if prompt.nearest:
        lines.append(
            f"Before every text Sortal shows the {prompt.nearest} training rows nearest to it. The request shows none, and the export holds no training rows: "
            "a server answers without examples, which is not what was measured."
        )
    if subject.decision.thresholds is not None:
        lines.append("Thresholds need probabilities, which generated text has none of.")
    return "\n\n".join(lines) + "\n"


def notes(subject: Subject) -> str:
    """How the merged model is asked with transformers."""
    return (
        "A causal language model with the adapter merged in:\n\n```python\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained("FOLDER")\n'
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n```\n\n'
    ) + cautions(subject, "vLLM")


def _asked(prompt: Prompt) -> str:
    words = words_before(prompt, EXAMPLE)
    return words + f"{_each_lead(prompt)}{prompt.verbalizer.answers[0]}:" if prompt.form == "each" else words


def _each_lead(prompt: Prompt) -> str:
    return "" if prompt.text.format == "chat" else "\n"


def _constraint(prompt: Prompt) -> dict[str, Any]:
    choices = answer_choices(prompt)
    if prompt.form != "list":
        return {"choice": choices}
    first = "|".join(re.escape(words) for words in choices)
    later = "|".join(re.escape(f" {answer}") for answer in prompt.verbalizer.answers)
    return {"regex": f"({first})({re.escape(prompt.separator_text)}({later}))*"}


def _quoted(words: str) -> str:
    escaped = words.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
