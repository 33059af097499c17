"""What a prompt leaves of a text: truncation, and prompts without room."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_files import byte_tokenizer
from prompts import chat_tokenizer, label_names, make_prompt
from sortal.backbone.encoding import cut, encode_after
from sortal.errors import ConfigError
from sortal.prompting.prompt import TEXT_TOKENS
from sortal.prompting.shots import Shot


@settings(max_examples=40, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    room=st.integers(1, 25),
    truncation=st.sampled_from(["head", "tail", "head+tail"]),
    chat=st.booleans(),
)
def test_truncation_cuts_nothing_but_the_text(text, room, truncation, chat):
    """S14."""
    tokenizer = chat_tokenizer() if chat else byte_tokenizer()
    draft = make_prompt(tokenizer=tokenizer, shots=(Shot("x", (0,)),))
    fixed = len(draft.shared()) + len(draft.cue) + draft.longest_answer
    prompt = replace(draft, max_length=fixed + room, truncation=truncation)
    bare = np.array(encode_after(tokenizer, "", [" " + text])[0])
    kept = bare if len(bare) <= room else cut(bare, room, truncation)
    encoded = prompt.encode([text])
    assert encoded[0].tolist() == [*kept.tolist(), *prompt.cue.tolist()]
    assert encoded.truncated == int(len(bare) > room)
    assert prompt.shared().tolist() == draft.shared().tolist()
    longest = max(len(prompt.response([label])) for label in (0, 1))
    whole = len(prompt.shared()) + len(encoded[0]) + longest
    assert whole <= prompt.max_length
    assert (whole == prompt.max_length) == (len(bare) >= room)


@settings(max_examples=40, deadline=None)
@given(labels=label_names, max_labels=st.integers(1, 4), data=st.data())
def test_no_answer_is_longer_than_the_longest(labels, max_labels, data):
    prompt = make_prompt(labels=labels, form="list", max_labels=max_labels)
    chosen = data.draw(st.lists(st.integers(0, len(labels) - 1), max_size=max_labels, unique=True))
    assert len(prompt.response(chosen)) <= prompt.longest_answer
    single = make_prompt(labels=labels)
    assert single.longest_answer == max(len(single.response([i])) for i in range(len(labels)))


@pytest.mark.parametrize("form", ["label", "list", "each"])
def test_a_prompt_without_room_for_a_text_is_refused(form):
    draft = make_prompt(form=form)
    fixed = len(draft.shared()) + len(draft.cue) + draft.longest_answer
    with pytest.raises(
        ConfigError, match=f"max_length {fixed} leaves no room for a text.*has {fixed} tokens"
    ):
        replace(draft, max_length=fixed).encode(["x"])
    assert len(replace(draft, max_length=fixed + 1).encode(["xyz"])[0]) == 1 + len(draft.cue)


@pytest.mark.parametrize("source", ["Text:\n{text}", "Text: {text}", "Text:\n{text}  "])
def test_a_template_with_nothing_after_the_text_is_refused(source):
    """The state of an empty text's last token would be that of no token at all."""
    with pytest.raises(ConfigError, match=r"has no words after \{text\}"):
        make_prompt(source).encode([""])
    assert len(make_prompt(source, tokenizer=chat_tokenizer()).encode([""])[0]) > 0


def test_without_max_length_a_text_has_its_usual_room():
    prompt = make_prompt()
    encoded = prompt.encode(["x" * 1000])
    assert len(encoded[0]) == TEXT_TOKENS + len(prompt.cue)
    assert prompt.longest() == len(prompt.shared()) + len(encoded[0]) + prompt.longest_answer
    assert replace(prompt, max_length=400).longest() == 400


def test_a_list_beside_each_text_takes_the_place_of_the_shared_one():
    prompt = make_prompt(labels=("a", "bb", "cccc", "ddd"), max_length=200)
    listed = len(prompt.label_list([1, 3]))
    encoded = prompt.encode(["x" * 1000], listed)
    whole = len(prompt.head) + listed + len(prompt.tail) + len(encoded[0]) + prompt.longest_answer
    assert whole == 200
    assert replace(prompt, max_length=None).longest(2) < replace(prompt, max_length=None).longest()
