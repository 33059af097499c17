from __future__ import annotations

import pytest

from checked import context, found, notes, rows
from sortal.checks.units import Tokens


def test_texts_without_a_visible_character_are_empty_and_removed():
    texts = ["fine text", "", "  \n", "\u200b\u2060", "\ufeff", "three words here"]
    (finding,) = found("text-length", context([(text, "a") for text in texts]))
    assert (finding.severity, rows(finding), notes(finding)) == ("warning", [2, 3, 4, 5], ["'a'"] * 4)
    assert "4 rows (66.7%) have no text" in finding.what
    assert finding.remedies[0].rows.tolist() == [1, 2, 3, 4]


def test_one_or_two_characters_are_a_note():
    (finding,) = found(
        "text-length",
        context([("ok", "a"), ("?", "a"), ("yes", "a"), ("o k\u200b", "a"), ("好", "a"), ("👍", "a")]),
    )
    assert (finding.severity, rows(finding)) == ("note", [1, 2, 4])


def test_a_text_far_longer_than_the_others_is_pointed_out():
    given = context([("three words here", "a")] * 20 + [("word " * 501, "a"), ("word " * 499, "a")])
    (finding,) = found("text-length", given)
    assert (finding.severity, rows(finding), notes(finding)) == ("note", [21], ["501 words"])


def test_what_max_length_cuts_longest_first():
    given = context([("one two three", "a")] * 40 + [("a b c d", "a"), ("a b c d e f", "a")], max_length=3)
    (finding,) = found("text-length", given)
    assert (finding.severity, rows(finding), notes(finding)) == ("note", [42, 41], ["6 words", "4 words"])
    assert (
        "2 rows (4.8%) would be cut at 3 words, 3.1% of all words; median 3, 99 % 6, longest 6"
        in finding.what
    )


def test_many_cut_rows_are_a_warning():
    (finding,) = found("text-length", context([("one two", "a"), ("one", "a")], max_length=1))
    assert finding.severity == "warning"


def test_scripts_without_spaces_count_characters():
    (finding,) = found(
        "text-length", context([("猫が好きです", "a"), ("猫", "a"), ("猫が好", "a")], max_length=4)
    )
    assert notes(finding)[-1] == "6 words"


def test_ordinary_texts_are_fine():
    assert found("text-length", context([("three words here", "a")] * 5, max_length=3)) == []
    assert found("text-length", context([("three words here", "a")] * 5)) == []


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_tokens_of_a_model_with_its_template(tiny_models, family):
    from sortal.backbone.loading import load_tokenizer
    from sortal.backbone.template import make_template

    path = str(tiny_models[family])
    tokenizer = load_tokenizer(path)
    template = make_template("summary", tokenizer)
    text = "how long does it take"
    length = (
        len(template.prefix)
        + len(tokenizer(text, add_special_tokens=False)["input_ids"])
        + len(template.suffix)
    )
    rows_ = [(text, "a"), ("no", "a")]
    assert found("text-length", context(rows_[:1], max_length=length, unit=Tokens.of(path, print))) == []
    (finding,) = found("text-length", context(rows_[:1], max_length=length - 1, unit=Tokens.of(path, print)))
    assert notes(finding) == [f"{length} tokens"]
    assert "with its template" in finding.what


def test_tokens_of_an_encoder(tiny_encoders):
    path = str(tiny_encoders["bert"])
    (finding,) = found("text-length", context([("how long", "a")], max_length=1, unit=Tokens.of(path, print)))
    assert "tokens" in finding.what
