from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from model_files import byte_tokenizer
from sortal.backbone import encoding
from sortal.backbone.encoding import TextEncoder, cut
from sortal.backbone.template import install, make_template

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=6)


def _encoder(truncation="head", max_length=30, source="Is {text} so"):
    tokenizer = byte_tokenizer()
    template = make_template(source, tokenizer)
    install(template, tokenizer, max_length, truncation)
    return TextEncoder(tokenizer, template, max_length, truncation)


def _bare(text):
    return byte_tokenizer()(text, split_special_tokens=True)["input_ids"]


@settings(max_examples=40, deadline=None)
@given(texts, st.sampled_from(["head", "tail", "head+tail"]))
def test_the_template_is_whole_and_only_the_text_is_cut(many, truncation):
    """S14."""
    encoder = _encoder(truncation)
    room = encoder.max_length - encoder.template.extra
    encoded = encoder.encode(many)
    for text, ids in zip(many, encoded, strict=True):
        bare = _bare(text)
        prefix, suffix = list(encoder.template.prefix), list(encoder.template.suffix)
        assert ids[: len(prefix)].tolist() == prefix
        assert ids[-len(suffix) :].tolist() == suffix
        inside = ids[len(prefix) : -len(suffix)].tolist()
        front = (room + 1) // 2
        expected = {
            "head": bare[:room],
            "tail": bare[-room:],
            "head+tail": bare if len(bare) <= room else bare[:front] + bare[-(room - front) :],
        }[truncation]
        assert inside == expected
    assert encoded.truncated == sum(len(_bare(t)) > room for t in many)
    assert encoded.tokens == encoded.lengths.sum() == sum(len(ids) for ids in encoded)


@settings(max_examples=30, deadline=None)
@given(texts, st.sampled_from(["head", "tail"]))
def test_encode_equals_the_tokenizer_itself(many, truncation):
    encoder = _encoder(truncation)
    theirs = encoder.tokenizer(many, truncation=True)["input_ids"]
    assert [ids.tolist() for ids in encoder.encode(many)] == theirs


@pytest.mark.parametrize("truncation", ["head", "tail"])
def test_encode_equals_the_reloaded_tokenizer(tmp_path, truncation):
    encoder = _encoder(truncation)
    encoder.tokenizer.save_pretrained(tmp_path)
    many = ["", "short", "long " * 30, "<|end|><|start|>", "Ünïcode 文字 \U0001f600" * 3]
    theirs = AutoTokenizer.from_pretrained(tmp_path)(many, truncation=True)["input_ids"]
    assert [ids.tolist() for ids in encoder.encode(many)] == theirs


def test_a_padded_call_of_the_tokenizer_before_changes_nothing():
    encoder = _encoder()
    before = encoder.encode(["abc", "x " * 40])
    encoder.tokenizer(["a", "b" * 50], padding=True, truncation=True, max_length=15)
    after = encoder.encode(["abc", "x " * 40])
    assert before.flat.tolist() == after.flat.tolist()


def test_a_stream_is_encoded_batch_by_batch_in_order(monkeypatch):
    monkeypatch.setattr(encoding, "_BATCH", 2)
    taken, written = [], []
    real = np.concatenate

    def concatenate(chunks):
        written.append(len(taken))
        return real(chunks)

    def stream():
        for text in ("a", "bb", "ccc", "dddd", "eeeee"):
            taken.append(text)
            yield text

    monkeypatch.setattr(encoding.np, "concatenate", concatenate)
    encoded = _encoder().encode(stream())
    extra = _encoder().template.extra
    assert encoded.lengths.tolist() == [extra + n for n in (1, 2, 3, 4, 5)]
    assert written == [2, 4, 5], "a batch is on disk before the next is read"


def test_no_texts_give_an_empty_array():
    encoded = _encoder().encode([])
    assert (len(encoded), encoded.tokens, encoded.truncated) == (0, 0, 0)
    assert encoded.lengths.tolist() == []


@pytest.mark.parametrize(
    ("policy", "kept"),
    [("head", [0, 1, 2, 3, 4]), ("tail", [5, 6, 7, 8, 9]), ("head+tail", [0, 1, 2, 8, 9])],
)
def test_cut_keeps_what_the_policy_says(policy, kept):
    assert cut(np.arange(10, dtype=np.int32), 5, policy).tolist() == kept


def test_cut_to_one_token():
    assert cut(np.arange(10, dtype=np.int32), 1, "head+tail").tolist() == [0]
