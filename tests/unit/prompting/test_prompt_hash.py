"""The hash of a prompt covers what is read and answered, and nothing else changes it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prompts import LINES, bytes_with_bos, chat_tokenizer, make_prompt, text_ids, word_tokenizer
from sortal.prompting.shots import Shot

SHOTS = (Shot("a", (0,)), Shot("b", (1,)))


@pytest.mark.parametrize("form", ["label", "list", "each"])
def test_the_hash_changes_with_everything_that_is_read_or_answered(form):
    def make(**changes):
        values = {"source": LINES, "labels": ("good", "bad"), "form": form, "shots": SHOTS}
        return make_prompt(**(values | changes))

    changed = {
        "same": make(),
        "wording": make(labels=("good", "bat")),
        "order": make(labels=("bad", "good")),
        "description": make(listed=("good: fine", "bad")),
        "another label": make(labels=("good", "bad", "odd")),
        "shot text": make(shots=(SHOTS[0], Shot("c", (1,)))),
        "shot label": make(shots=(SHOTS[0], Shot("b", (0,)))),
        "fewer shots": make(shots=SHOTS[:1]),
        "shot order": make(shots=SHOTS[::-1]),
        "before": make(source=LINES.replace("Classify", "Sort")),
        "between": make(source=LINES.replace("{labels}\n", "{labels} \n")),
        "query": make(source=LINES.replace("Text:", "Words:")),
        "lead": make(source=LINES.replace("Text: ", "Text:"), shots=()),
        "no shots": make(shots=()),
        "two spaces": make(source=LINES.replace("Text: ", "Text:  "), shots=()),
        "after": make(source=LINES.replace("\nLabel:", "\nTopic:")),
        "line after": make(source=LINES + "\n"),
        "chat": make(tokenizer=chat_tokenizer()),
        "bos": make(tokenizer=bytes_with_bos()),
        "vocabulary": make(tokenizer=word_tokenizer()),
    }
    hashes = {name: prompt.hash for name, prompt in changed.items()}
    assert len(set(hashes.values())) == len(hashes), hashes
    assert make().hash == hashes["same"]
    assert len(hashes["same"]) == 16


@pytest.mark.parametrize("form", ["label", "list", "each"])
def test_the_hash_covers_how_nearest_examples_are_shown(form):
    def make(source=LINES, size=2, **changes):
        return make_prompt(
            **({"source": source, "labels": ("good", "bad"), "form": form, "nearest": size} | changes)
        )

    def near(example):
        """A prompt whose examples look otherwise than what is asked."""
        prompt = make()
        return replace(prompt, text=replace(prompt.text, example=example))

    changed = {
        "same": make(),
        "none": make(size=0),
        "more": make(size=3),
        "wording": make(labels=("good", "bat")),
        "before": near("Words: {text}\nLabel: {answer}\n\n"),
        "cue": near("Text: {text}\nTopic: {answer}\n\n"),
        "end": near("Text: {text}\nLabel: {answer}\n"),
    }
    hashes = {name: prompt.hash for name, prompt in changed.items()}
    assert len(set(hashes.values())) == len(hashes), hashes
    assert make().hash == hashes["same"]


def test_the_hash_tells_the_forms_apart():
    assert len({make_prompt(form=form).hash for form in ("label", "list", "each")}) == 3


def test_an_encoding_in_between_leaves_the_prompt_as_it_was():
    """The tokenizer is shared and keeps state; neither padding nor special tokens may leak into a prompt."""
    tokenizer = chat_tokenizer()
    prompt, again = make_prompt(tokenizer=tokenizer), make_prompt(tokenizer=tokenizer)
    before = (prompt.hash, text_ids(prompt, "<|end|>"))
    tokenizer.pad_token = "<|end|>"
    tokenizer(["a", "b<|end|>" * 9], padding=True, truncation=True, max_length=5, split_special_tokens=False)
    assert (again.hash, text_ids(again, "<|end|>")) == before
