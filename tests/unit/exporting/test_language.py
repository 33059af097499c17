"""Requests for servers that generate: the prompt's tokens, and nothing but labels as answers."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from transformers import AutoTokenizer

from instruct_runs import LABELS, save_chat_model
from sortal.exporting import language
from sortal.prompting.prompt import Prompt
from sortal.prompting.shots import Shot
from sortal.prompting.template import make_prompt_text
from sortal.prompting.verbalizer import Verbalizer


@pytest.fixture(scope="module")
def tokenizers(tiny, tmp_path_factory):
    chat = save_chat_model(tmp_path_factory.mktemp("chat") / "chat")
    return {"plain": AutoTokenizer.from_pretrained(tiny), "chat": AutoTokenizer.from_pretrained(chat)}


def make(tokenizers, form="label", kind="plain", shots=()):
    text = make_prompt_text("classify", form, tokenizers[kind], "auto")
    return Prompt(tokenizers[kind], text, form, Verbalizer(LABELS, LABELS), shots=shots, max_labels=2)


@pytest.mark.parametrize("kind", ["plain", "chat"])
@pytest.mark.parametrize("form", ["label", "list", "each"])
def test_the_words_become_the_prompts_tokens(tokenizers, form, kind):
    prompt = make(tokenizers, form, kind)
    words = language.words_before(prompt, "a text 12")
    first = language.adds_first_token(prompt)
    found = prompt.tokenizer(words, add_special_tokens=first)["input_ids"]
    assert found == [*prompt.shared(), *prompt.encode(["a text 12"])[0]]


def test_examples_stand_in_the_words(tokenizers):
    prompt = make(tokenizers, shots=(Shot("shown", (1,)),))
    words = language.words_before(prompt, "asked")
    assert words.endswith("\n\nText: shown\nLabel: good enough\n\nText: asked\nLabel:")
    found = prompt.tokenizer(words)["input_ids"]
    assert found == [*prompt.shared(), *prompt.encode(["asked"])[0]]


@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_choices_are_the_answers_tokens(tokenizers, kind):
    prompt = make(tokenizers, kind=kind)
    choices = language.answer_choices(prompt)
    encode = prompt.tokenizer
    assert [tuple(encode(words, add_special_tokens=False)["input_ids"]) for words in choices] == list(
        prompt.answers
    )


def test_a_list_is_held_to_labels_and_separators(tokenizers):
    prompt = make(tokenizers, "list")
    pattern = language._constraint(prompt)["regex"]
    assert re.fullmatch(pattern, " good, bäd 好")
    assert re.fullmatch(pattern, " odd")
    assert not re.fullmatch(pattern, " good,bad")
    assert not re.fullmatch(pattern, "")


def test_yes_or_no_is_asked_of_each_label(tokenizers):
    prompt = make(tokenizers, "each")
    assert language._asked(prompt).endswith("Labels:\nodd:")
    assert language._constraint(prompt) == {"choice": [" yes", " no"]}


def test_quotes_in_a_label_do_not_end_a_grammars_string(tokenizers):
    prompt = replace(make(tokenizers), verbalizer=Verbalizer(('say "no"', "a\\b"), ('say "no"', "a\\b")))
    assert language.grammar(prompt) == r'root ::= (" say \"no\"" | " a\\b")'
