"""Texts encoded right after a context, by tokenizers of several kinds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_files import byte_tokenizer
from prompts import END, TOKENIZERS
from sortal.backbone.encoding import encode_after


@settings(max_examples=60, deadline=None)
@given(context=st.text(max_size=5), texts=st.lists(st.text(max_size=8), max_size=3), special=st.booleans())
def test_what_is_encoded_after_a_context_is_the_text_and_nothing_of_the_context(context, texts, special):
    tokenizer = TOKENIZERS["words"]
    whole = [text.encode(errors="ignore").decode() for text in (context, *texts)]  # no lone surrogates
    found = encode_after(tokenizer, whole[0], whole[1:], special=special)
    assert [tokenizer.decode(ids) for ids in found] == whole[1:]


@pytest.mark.parametrize(
    ("name", "context", "text", "tokens"),
    [
        ("words", ":", " good", ["Ġgood"]),
        ("words", "g", "ood", ["o", "od"]),
        ("words", "go", "od", ["od"]),
        ("pieces", ":", " good", ["▁good"]),
        ("pieces", "\n", "good", ["g", "o", "od"]),
        ("pieces", "", "good", ["▁good"]),
    ],
)
def test_a_text_has_the_tokens_it_has_in_its_place(name, context, text, tokens):
    """Where the context and the text would share a token, the text is encoded alone."""
    tokenizer = TOKENIZERS[name]
    (found,) = encode_after(tokenizer, context, [text])
    assert tokenizer.convert_ids_to_tokens(found) == tokens


def test_special_tokens_are_meant_as_such_only_where_that_is_said():
    tokenizer = byte_tokenizer()
    for context in ("", "x", "<|start|>"):
        for _ in range(2):
            (real,) = encode_after(tokenizer, context, ["a<|end|>"], special=True)
            (plain,) = encode_after(tokenizer, context, ["a<|end|>"])
            assert real[1:] == [END]
            assert len(plain) == len("a<|end|>")
            assert END not in plain
