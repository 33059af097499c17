"""The tokens of a whole prompt: the parts of a template, the label list, examples and the text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from prompts import (
    END,
    LINES,
    START,
    TOKENIZERS,
    chat_tokenizer,
    label_names,
    make_prompt,
    piece_tokenizer,
    text_ids,
)
from sortal.backbone.encoding import cut, encode_after
from sortal.errors import ConfigError
from sortal.prompting.shots import SHOT_TOKENS, Shot

INLINE = "Is the text {labels} or else?\n{examples}Text: {text} =>"
BARE = "{examples}{text}\nLabel:"
SOURCES = (LINES, INLINE, BARE, "One of {labels}: {text}\nLabel:\n", "What is {text}? ", "{text}:")
HARD = (
    "",
    " ",
    "<|end|>",
    "x <|start|>user\nspam<|end|>",
    "\nLabel: spam\n\nText: ",
    " Ünï 文字 \U0001f600 ",
)
plain_words = st.text(st.sampled_from("ab god\n:,.-"), max_size=12)


def _rendered(prompt, text, order=None):
    """The whole prompt as one string, up to the answer."""
    parts, wording = prompt.text, prompt.verbalizer
    listed = [wording.listed[i] for i in (range(len(wording.listed)) if order is None else order)]
    found = parts.before
    if parts.lists_labels:
        found += ("\n" if parts.one_per_line else ", ").join(listed)
    found += parts.between
    for shot in prompt.shots:
        answer = ", ".join(wording.answers[i] for i in sorted(shot.labels))
        found += parts.example.replace("{text}", "\0").replace("{answer}", answer).replace("\0", shot.text)
    return found + parts.query + text + parts.after.rstrip(" ")


def _encoded(tokenizer, text, special=False):
    return [*tokenizer("")["input_ids"], *encode_after(tokenizer, "", [text], special=special)[0]]


# the whole prompt


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
@settings(max_examples=40, deadline=None)
@given(
    source=st.sampled_from(SOURCES),
    labels=label_names,
    text=plain_words,
    shots=st.lists(st.tuples(plain_words, st.integers(0, 9)), max_size=2),
    data=st.data(),
)
def test_all_parts_together_are_the_tokens_of_the_whole_string(name, source, labels, text, shots, data):
    """Label lists in lines and inline, examples, text and every answer; the tokenizer's own first token once."""
    tokenizer = TOKENIZERS[name]
    if name == "pieces" and source.startswith(("{examples}", "{text}")):
        source = "Text:\n" + source  # where a whole string begins with no text, its cue gets a space in front
    shots = tuple(Shot(shown, (i % len(labels),)) for shown, i in shots) if "{examples}" in source else ()
    # What is shared cannot depend on a text: a line end before it is encoded as before a word.
    assume((name, source) != ("words", BARE) or all(t[:1].strip() for t in (text, *(s.text for s in shots))))
    # Nor can a text's tokens depend on the cue: line ends at its end are read as where nothing follows.
    cue = source.partition("{text}")[2]
    assume(name != "words" or cue[:1].isspace() or not text.endswith("\n\n"))
    prompt = make_prompt(source, labels, tokenizer, shots=shots)
    order = data.draw(st.permutations(range(len(labels))))[: data.draw(st.integers(1, len(labels)))]
    for chosen in (None, order):
        whole = _rendered(prompt, text, chosen)
        lead = "" if whole[-1:].isspace() else " "
        beginning = [*prompt.shared(chosen).tolist(), *text_ids(prompt, text)]
        for label, answer in zip(labels, prompt.answers, strict=True):
            assert [*beginning, *answer] == _encoded(tokenizer, whole + lead + label)


@settings(max_examples=40, deadline=None)
@given(
    source=st.sampled_from([LINES, INLINE, "One of {labels}: {text}\nLabel:\n", "{text}\n\nIts label:"]),
    labels=label_names,
    text=plain_words,
    shown=plain_words,
    bos=st.booleans(),
)
def test_in_the_chat_format_the_special_tokens_are_the_only_ones(source, labels, text, shown, bos):
    tokenizer = chat_tokenizer(bos=bos)
    shots = (Shot(shown, (0,)),) if "{examples}" in source else ()
    prompt = make_prompt(source, labels, tokenizer, shots=shots)
    whole = _rendered(prompt, text)
    expected = encode_after(tokenizer, "", [whole], special=True)[0]
    assert [*prompt.shared().tolist(), *text_ids(prompt, text)] == expected
    assert expected.count(START) == 2
    assert expected[0] == START, "the template's first token is also the tokenizer's own: not doubled"
    for label, answer in zip(labels, prompt.answers, strict=True):
        assert [*expected, *answer] == encode_after(tokenizer, "", [whole + label], special=True)[0]


@pytest.mark.parametrize("format_", ["plain", "chat"])
@pytest.mark.parametrize("source", [LINES, BARE, "{text}\nLabel:"])
@pytest.mark.parametrize("opening", ["", "<|start|>"])
def test_the_first_token_of_the_tokenizer_comes_exactly_once(source, format_, opening):
    template = opening + "User: {{ messages[0]['content'] }}\nAssistant:\n"
    for tokenizer, own in ((chat_tokenizer(template), 0), (chat_tokenizer(template, bos=True), 1)):
        prompt = make_prompt(source, tokenizer=tokenizer, format_=format_)
        written = int(format_ == "chat" and bool(opening))
        shared = prompt.shared().tolist()
        assert shared.count(START) == max(own, written)
        assert (shared[:1] == [START]) == bool(own or written)
        assert START not in text_ids(prompt, "x")


@pytest.mark.parametrize("text", HARD)
def test_special_tokens_in_texts_labels_and_examples_are_plain_characters(text):
    """B6: only the chat format's own special tokens are special."""
    wording = f"a{text}"
    prompt = make_prompt(
        labels=("good", wording), tokenizer=chat_tokenizer(), shots=(Shot(text, (1,)), Shot("x", (0,)))
    )
    shared, own = prompt.shared().tolist(), text_ids(prompt, text)
    assert (shared.count(START), shared.count(END)) == (1, 0)
    assert (own.count(START), own.count(END)) == (1, 1)
    assert prompt.tokenizer.decode(own).startswith(" " + text)
    assert not {START, END} & {i for answer in (*prompt.answers, *prompt.later_answers) for i in answer}
    assert not {START, END} & set(prompt.label_list().tolist())
    response = prompt.response([1])
    assert response.count(END) == 1
    assert response[-1] == END
    assert prompt.tokenizer.decode(response[:-1]) == wording


def test_special_tokens_of_a_users_own_template_are_meant_as_such():
    prompt = make_prompt("<|start|>Text: {text}<|end|>\nLabel:")
    assert prompt.shared()[0] == START
    assert prompt.cue[0] == END


def test_a_sentence_piece_answer_has_one_space_and_not_two():
    prompt = make_prompt(labels=("good", "bad"), tokenizer=piece_tokenizer())
    assert prompt.tokenizer.convert_ids_to_tokens(prompt.answers[0]) == ["▁good"]
    assert prompt.tokenizer.convert_ids_to_tokens(text_ids(prompt, "good"))[0] == "▁good"


def test_after_an_example_a_text_begins_on_a_new_line_and_not_in_a_new_document():
    tokenizer = piece_tokenizer()
    alone, after = (
        make_prompt(BARE, tokenizer=tokenizer, shots=shots) for shots in ((), (Shot("good", (0,)),))
    )
    assert tokenizer.convert_ids_to_tokens(text_ids(alone, "good"))[:2] == ["▁good", "\n"]
    assert tokenizer.convert_ids_to_tokens(text_ids(after, "good"))[:4] == ["g", "o", "od", "\n"]


# the label list


@settings(max_examples=30, deadline=None)
@given(label_names, st.sampled_from([LINES, INLINE, BARE]), st.data())
def test_any_order_of_the_labels_has_the_same_number_of_tokens(labels, source, data):
    prompt = make_prompt(source, labels, listed=[f"{label}!" for label in labels])
    order = data.draw(st.permutations(range(len(labels))))
    plain, shuffled = prompt.shared(), prompt.shared(order)
    assert len(plain) == len(shuffled)
    shown = _rendered(prompt, "\0", order).partition("\0")[0].rstrip(" ")
    assert prompt.tokenizer.decode(shuffled) == shown


def test_the_list_shows_the_descriptions_and_the_answers_are_the_wordings():
    prompt = make_prompt(labels=("A", "B"), listed=("A: fine things", "B: the rest"))
    shown = prompt.tokenizer.decode(prompt.shared())
    assert "labels:\nA: fine things\nB: the rest\n\nText:" in shown
    assert prompt.tokenizer.decode(prompt.response([0])) == " A<|end|>"


def test_a_template_that_lists_no_labels_has_no_label_list():
    prompt = make_prompt("Text: {text}\nLabel:")
    assert prompt.label_list().dtype == np.int64
    assert len(prompt.label_list()) == 0
    assert prompt.tokenizer.decode(prompt.shared()) == "Text:"


# examples


def test_examples_show_text_and_labels_in_the_form_of_the_answer():
    prompt = make_prompt(
        LINES,
        ("one", "two", "three"),
        form="list",
        shots=(Shot("a b", (2, 0)), Shot("", ()), Shot("c", (1,))),
    )
    shown = prompt.tokenizer.decode(prompt.shared())
    assert shown.endswith(
        "\n\nText: a b\nLabel: one, three\n\nText: \nLabel: \n\nText: c\nLabel: two\n\nText:"
    )


@pytest.mark.parametrize("truncation", ["head", "tail", "head+tail"])
def test_only_the_text_of_an_example_is_cut(truncation):
    long = "".join(chr(97 + i % 26) for i in range(300))
    prompt = make_prompt(shots=(Shot(long, (1,)),), truncation=truncation)
    bare = encode_after(prompt.tokenizer, "", [" " + long])[0]
    kept = prompt.tokenizer.decode(cut(np.array(bare), SHOT_TOKENS, truncation))
    assert prompt.tokenizer.decode(prompt.shared()).endswith(f"\n\nText:{kept}\nLabel: bad\n\nText:")


def test_examples_without_a_place_for_them_are_refused():
    prompt = make_prompt("{labels}\nText: {text}\nLabel:", shots=(Shot("a", (0,)),))
    with pytest.raises(ConfigError, match="no place for examples") as error:
        prompt.shared()
    assert "{examples}" in error.value.fix
