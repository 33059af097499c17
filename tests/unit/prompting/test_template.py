from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_files import byte_tokenizer
from sortal.errors import ConfigError, ModelError
from sortal.prompting.template import NAMED, PromptText, check_source, make_prompt_text

CHAT = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
TOKENIZER = byte_tokenizer()
words = st.text(st.sampled_from("ab \n:,.é"), max_size=8)


def _chat(template=CHAT):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def _joined(text):
    """The template again, from its parts."""
    labels = "{labels}" if text.lists_labels else ""
    examples = "{examples}" if text.example else ""
    return text.before + labels + text.between + examples + text.query + "{text}" + text.after


# plain


@settings(max_examples=60, deadline=None)
@given(words, st.booleans(), words, st.booleans(), words, words)
def test_the_parts_of_a_plain_template_are_the_template(a, labels, b, examples, c, d):
    source = a + ("{labels}" if labels else "") + b + ("{examples}" if examples else "") + c + "{text}" + d
    text = make_prompt_text(source, "label", TOKENIZER)
    assert _joined(text) == source
    assert (text.source, text.format) == (source, "plain")
    assert text.lists_labels == labels
    assert (text.example is not None) == examples


@pytest.mark.parametrize(("name", "form"), [(name, form) for name in NAMED for form in NAMED[name]])
def test_named_templates_are_split_like_any_other(name, form):
    text = make_prompt_text(name, form, TOKENIZER)
    assert _joined(text) == NAMED[name][form]
    assert text.source == name
    assert text.lists_labels == (form != "each")
    assert text.one_per_line == (name == "classify" and form != "each")


@pytest.mark.parametrize(
    ("source", "one_per_line"),
    [
        ("Labels:\n{labels}\nText: {text}\n:", True),
        ("{labels}\n{examples}{text}\n:", True),
        ("Labels:\n{labels}{examples}{text}\n:", True),
        ("One of {labels}.\nText: {text}\n:", False),
        ("Labels:\n{labels} and no other.\nText: {text}\n:", False),
        ("Labels: {labels}\nText: {text}\n:", False),
    ],
)
def test_labels_stand_in_lines_where_their_place_is_a_line_of_its_own(source, one_per_line):
    assert make_prompt_text(source, "label", TOKENIZER).one_per_line == one_per_line


@pytest.mark.parametrize(
    ("source", "example"),
    [
        ("{examples}Text: {text}\nLabel:", "Text: {text}\nLabel: {answer}\n\n"),
        ("{examples}Text: {text}\nLabel:\n", "Text: {text}\nLabel:\n{answer}\n\n"),
        ("{examples}{text} => ", "{text} => {answer}\n\n"),
        ("{labels}\nText: {text}\nLabel:", None),
    ],
)
def test_an_example_looks_like_the_text_with_its_answer(source, example):
    assert make_prompt_text(source, "label", TOKENIZER).example == example


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("Label:", r"has no \{text\}, so the model would never see the text"),
        ("{labels} {examples}", r"has no \{text\}"),
        ("{text} and {text}", r"holds \{text\} more than once"),
        ("{labels}, {labels}: {text}", r"holds \{labels\} more than once"),
        ("{examples}{examples}{text}", r"holds \{examples\} more than once"),
        ("{text} is one of {labels}", r"in the order \{labels\}, \{text\}"),
        ("{examples} {labels} {text}", r"in the order \{labels\}, \{examples\}, \{text\}"),
        ("{labels} {text} {examples}", r"in the order \{labels\}, \{examples\}, \{text\}"),
    ],
)
def test_a_template_that_cannot_work_says_why(source, complaint):
    with pytest.raises(ConfigError, match=complaint) as error:
        make_prompt_text(source, "label", TOKENIZER)
    assert repr(source) in error.value.what
    assert "write for example" in error.value.fix
    assert check_source(source) == error.value.what


@pytest.mark.parametrize("source", [*NAMED, "{text}", "{labels}{examples}{text}", "a {examples} b {text}"])
def test_templates_that_work_pass_the_check(source):
    assert check_source(source) is None


def test_a_named_template_without_a_wording_for_the_answer_names_those_it_has():
    with pytest.raises(ConfigError, match="'paper' has no wording for answer 'each'") as error:
        make_prompt_text("paper", "each", TOKENIZER)
    assert error.value.fix == "use answer label or list"


# chat


def test_in_the_chat_format_the_assistants_turn_is_the_cue():
    text = make_prompt_text("classify", "label", _chat())
    assert text.format == "chat"
    assert text.before == "<|start|>user\nClassify the text into one of these labels:\n"
    assert text.after == "<|end|>\n<|start|>assistant\n"
    assert text.example == "Text: {text}\nLabel: {answer}\n\n", (
        "an example shows its label inside the message"
    )


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        ("\nLabel:", ""),
        ("\n\nName its label.\nLabel:", "\n\nName its label."),
        ("", ""),
        (" =>", ""),
        ("\nAnswer with the label.\n", "\nAnswer with the label.\n"),
    ],
)
def test_only_the_last_line_after_the_text_is_left_out(after, kept):
    text = make_prompt_text("Text: {text}" + after, "label", _chat())
    assert text.after == kept + "<|end|>\n<|start|>assistant\n"


def test_a_template_without_labels_opens_the_users_turn_too():
    text = make_prompt_text("Text: {text}\nLabel:", "label", _chat())
    assert (text.before, text.between, text.query) == ("<|start|>user\n", "", "Text: ")


@pytest.mark.parametrize(
    ("template", "format_", "expected"),
    [(CHAT, "auto", "chat"), (CHAT, "chat", "chat"), (CHAT, "plain", "plain"), (None, "auto", "plain")],
)
def test_auto_uses_the_chat_format_where_there_is_one(template, format_, expected):
    text = make_prompt_text("classify", "label", _chat(template), format_)
    assert text.format == expected
    if expected == "plain":
        assert _joined(text) == NAMED["classify"]["label"]


def test_chat_asked_of_a_tokenizer_without_a_chat_template_is_refused():
    with pytest.raises(ModelError, match="this base model has none") as error:
        make_prompt_text("classify", "label", TOKENIZER, "chat")
    assert "prompt_format plain" in error.value.fix


@pytest.mark.parametrize(
    "template",
    [
        "<|start|>user\n<|end|>",
        "{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{% endfor %}",
        "{{ messages[0]['content'][1:] }}",
    ],
    ids=["drops", "repeats", "changes"],
)
def test_a_chat_template_that_does_not_keep_the_message_is_refused(template):
    with pytest.raises(ModelError, match="does not write the user's message exactly once"):
        make_prompt_text("classify", "label", _chat(template))


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('no user turn') }}", "{% for %}", "{{ messages[3]['content'] }}"]
)
def test_a_chat_template_that_cannot_be_rendered_is_refused(template):
    with pytest.raises(ModelError, match="chat template cannot be rendered") as error:
        make_prompt_text("classify", "label", _chat(template))
    assert error.value.fix == "use prompt_format plain"


# saving


@pytest.mark.parametrize("tokenizer", [TOKENIZER, _chat()], ids=["plain", "chat"])
def test_a_prompt_survives_json(tokenizer):
    text = make_prompt_text("classify", "list", tokenizer)
    assert PromptText.from_json(json.loads(json.dumps(text.to_json()))) == text


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_a_damaged_saved_prompt_is_refused(change):
    values = make_prompt_text("classify", "label", TOKENIZER).to_json()
    values.pop("after")
    if change == "unknown":
        values |= {"after": "", "afterwards": ""}
    with pytest.raises(ModelError, match=r"the saved prompt is damaged.*after"):
        PromptText.from_json(values)
