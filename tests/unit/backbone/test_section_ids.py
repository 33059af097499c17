from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from encoder_files import letters
from sortal.backbone.encoding import TextEncoder
from sortal.backbone.longtexts import LongTexts
from sortal.backbone.section_ids import encode_sections
from sortal.backbone.template import Template
from sortal.data.sections import MARK, plain_text

WORDS = st.text(st.sampled_from("ab .,\n\té文😀<|end|>"), max_size=12)


def merging():
    """A byte-level BPE that has a token for a full stop with the line break after it, as large vocabularies do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate([*alphabet, ".Ċ"])}
    backend = Tokenizer(models.BPE(vocabulary, [(".", "Ċ")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@pytest.fixture(scope="module", params=["bytes", "letters", "merging"])
def tokenizer(request, tiny_models):
    made = {
        "bytes": lambda: AutoTokenizer.from_pretrained(tiny_models["llama"]),
        "letters": letters,
        "merging": merging,
    }
    return made[request.param]()


@pytest.fixture
def border(tokenizer):
    """What stands before the second section of "hi." and a word, and before the third."""
    if ".Ċ" in tokenizer.get_vocab():
        return [".\n", "\n"]
    return ["", ""] if "##a" in tokenizer.get_vocab() else ["\n", "\n"]


def encoder(tokenizer, long, *, room, truncation="head", **more):
    return TextEncoder(tokenizer, Template("t", (1,), (2,)), room + 2, truncation, long=long, **more)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(WORDS, min_size=2, max_size=4), context=st.sampled_from(["", "x", "Text:"]))
def test_uncut_sections_are_the_tokens_of_the_plain_text(tokenizer, parts, context):
    long = LongTexts(tuple((f"s{i}", "all") for i in range(len(parts))))
    lead = "\n" if context else ""
    marked = encoder(tokenizer, long, room=1000, lead=lead, context=context)
    plain = encoder(tokenizer, LongTexts(), room=1000, lead=lead, context=context)
    text = MARK.join(parts)
    assert marked.encode([text])[0].tolist() == plain.encode([plain_text(text)])[0].tolist()
    (sections,) = encode_sections(tokenizer, context, lead, [parts])
    for section, part in zip(sections[1:], parts[1:], strict=True):
        assert part.strip() or not len(section.ids)


@pytest.mark.parametrize("truncation", ["head", "tail", "head+tail"])
def test_each_section_is_cut_by_the_policy_and_the_border_before_it_stays(tokenizer, border, truncation):
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    long = LongTexts((("title", "all"), ("claim", 5), ("body", "rest")))
    (reading,) = encoder(tokenizer, long, room=14, truncation=truncation).read(
        [MARK.join(("hi.", alphabet, alphabet))]
    )
    (sections,) = encode_sections(tokenizer, "", "", [("hi.", alphabet, alphabet)])
    assert (len(reading.ids), reading.truncated) == (14, True)
    title = len(sections[0].ids)
    for (kept, whole), section, size in zip(reading.sections, sections, (title, 5, 9 - title), strict=True):
        own, n = section.ids[section.lead :].tolist(), size - section.lead
        front = {"head": n, "tail": 0, "head+tail": (n + 1) // 2}[truncation]
        expected = [*section.ids[: section.lead], *own[:front], *own[len(own) - (n - front) :]]
        assert (kept.tolist(), whole) == (expected, len(section.ids))
    leads = [tokenizer.decode(section.ids[: section.lead]) for section in sections]
    assert leads == ["", *border]


def test_what_lost_tokens_is_counted_by_section(tokenizer):
    long = LongTexts((("title", "all"), ("claim", 5), ("body", "rest")))
    texts = [
        MARK.join(("a", "b", "c")),
        MARK.join(("a", "b" * 30, "c")),
        MARK.join(("a", "b" * 30, "c" * 99)),
        MARK.join(("", "", "c" * 99)),
        "no sections " * 9,
    ]
    encoded = encoder(tokenizer, long, room=20).encode(texts)
    assert encoded.truncated == 4
    assert encoded.section_cuts == {"title": 0, "claim": 2, "body": 2}
    assert encoded.lengths.max() == 22


def test_a_text_without_sections_is_read_as_plain_text(tokenizer):
    long = LongTexts((("title", 3), ("body", "rest")))
    text = "a title as long as any, and no border in it"
    marked, plain = encoder(tokenizer, long, room=20), encoder(tokenizer, LongTexts(), room=20)
    assert np.array_equal(marked.encode([text])[0], plain.encode([text])[0])
