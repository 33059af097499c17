"""What a prompt is answered with: lists, yes or no, codes, and wordings that cannot be told apart."""

from __future__ import annotations

import pytest
from tokenizers import normalizers

from model_files import byte_tokenizer
from prompts import END, TOKENIZERS, chat_tokenizer, make_prompt, word_tokenizer
from sortal.errors import ConfigError, ModelError


def test_a_list_answer_separates_labels_and_ends_once():
    prompt = make_prompt(labels=("one", "two", "two and more"), form="list")
    assert prompt.tokenizer.decode(prompt.response([2, 0])) == " one, two and more<|end|>"
    assert prompt.response([]) == [END]
    assert prompt.tokenizer.decode(prompt.separator) == ","


def test_the_separator_is_a_sign_that_no_label_contains():
    assert make_prompt(labels=("a, b", "c"), form="list").separator_text == ";"
    prompt = make_prompt(labels=("a, b", "c;d|e", "f"), form="list")
    assert prompt.separator_text == "/"
    assert prompt.tokenizer.decode(prompt.response([0, 2])) == " a, b/ f<|end|>"
    assert prompt.listed_answer([2, 0]) == "a, b/ f"
    with pytest.raises(ConfigError, match=r"every one of , ; \| / # occurs in a label"):
        _ = make_prompt(labels=("a,;|/#",), form="list").separator_text


@pytest.mark.parametrize("chat", [False, True])
def test_each_label_is_asked_for_in_a_line_of_its_own(chat):
    tokenizer = chat_tokenizer() if chat else byte_tokenizer()
    prompt = make_prompt("classify", ("one", "two words"), tokenizer, form="each")
    asked = [tokenizer.decode(branch) for branch in prompt.branches]
    assert asked == (["one:", "two words:"] if chat else ["\none:", "\ntwo words:"])
    assert prompt.longest_answer == 1 + max(map(len, prompt.branches))


def test_a_label_that_no_list_describes_is_asked_for_with_its_description():
    alone = make_prompt("classify", ("a1",), form="each", listed=("a1: farming",))
    assert [alone.tokenizer.decode(branch) for branch in alone.branches] == ["\na1: farming:"]
    listing = "Which apply?\n{labels}\nText: {text}\nLabels:"
    listed = make_prompt(listing, ("a1",), form="each", listed=("a1: farming",))
    assert [listed.tokenizer.decode(branch) for branch in listed.branches] == ["\na1:"]


@pytest.mark.parametrize(("name", "expected"), [("words", [" yes", " no"]), ("bytes", ["y", "n"])])
def test_yes_and_no_are_told_apart_by_one_token(name, expected):
    prompt = make_prompt(form="each", tokenizer=TOKENIZERS[name])
    assert [prompt.tokenizer.decode(token) for token in prompt.yes_no] == expected


def test_one_token_codes_are_judged_where_the_answer_stands():
    plain, chat = (
        make_prompt(tokenizer=word_tokenizer()),
        make_prompt("One: {text}\n", tokenizer=word_tokenizer()),
    )
    assert [plain.is_one_token(w) for w in ("good", "go", "a", "x")] == [True, True, False, False]
    assert [chat.is_one_token(w) for w in ("good", "go", "a", "x")] == [True, True, True, True]


def test_wordings_that_are_the_same_tokens_are_both_named():
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(ConfigError, match="the wordings 'Good' and 'gOOD' are the same tokens"):
        _ = make_prompt(labels=("Good", "bad", "gOOD"), tokenizer=tokenizer).answers


def test_a_wording_without_tokens_is_refused():
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    with pytest.raises(ConfigError, match="has no tokens in this model's vocabulary"):
        _ = make_prompt("{text}\nLabel:\n", ("\u200b", "b"), tokenizer).answers


def test_an_answer_needs_a_token_that_ends_it():
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        make_prompt(tokenizer=tokenizer).response([0])
