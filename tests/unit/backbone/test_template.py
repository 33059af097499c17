from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, GemmaTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

from model_files import byte_tokenizer
from sortal.backbone.template import NAMED, Template, choose_pad, install, make_template, own_prefix
from sortal.config_sections import HEAD_TEMPLATES
from sortal.errors import ConfigError, ModelError


def _pieces(*special):
    letters = [chr(i) for i in range(97, 123)]
    return {token: i for i, token in enumerate([*special, "▁", *letters, "▁a", ":", '"', ","])}


def _llama(**more):
    """The class of SentencePiece-born tokenizers, which builds its post-processor anew when it is loaded."""
    return LlamaTokenizer(vocab=_pieces("<unk>", "<s>", "</s>"), merges=[("▁", "a")], **more)


def _gemma():
    return GemmaTokenizer(vocab=_pieces("<pad>", "<eos>", "<bos>", "<unk>"), merges=[("▁", "a")])


def _fast(*special, **more):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*letters, *special])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **more)


TOKENIZERS = {
    "byte": byte_tokenizer,
    "llama": lambda: _llama(add_bos_token=True),
    "llama_eos": lambda: _llama(add_bos_token=True, add_eos_token=True),
    "gemma": _gemma,
    "only_eos": lambda: _fast("<|end|>", eos_token="<|end|>"),
}


def _ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# the ids of a template


def test_the_text_of_a_template_goes_around_the_text():
    tokenizer = byte_tokenizer()
    template = make_template("Text: {text} Topic:", tokenizer)
    assert list(template.prefix) == _ids(tokenizer, "Text: ")
    assert list(template.suffix) == _ids(tokenizer, " Topic:")
    assert template.extra == len(template.prefix) + len(template.suffix)


def test_summary_is_the_prompt_of_the_paper():
    tokenizer = byte_tokenizer()
    template = make_template("summary", tokenizer)
    assert tokenizer.decode(template.prefix) == 'This sentence: "'
    assert tokenizer.decode(template.suffix) == '" means in one word: "'


def test_eos_is_the_papers_form():
    tokenizer = byte_tokenizer()
    assert make_template("eos", tokenizer) == Template("eos", (), (tokenizer.eos_token_id,))


def test_a_bos_the_tokenizer_adds_is_kept_once_and_its_eos_is_not():
    for tokenizer in (_llama(add_bos_token=True), _llama(add_bos_token=True, add_eos_token=True)):
        template = make_template("a: {text} ,", tokenizer)
        assert template.prefix.count(tokenizer.bos_token_id) == 1
        assert template.prefix[0] == tokenizer.bos_token_id
        assert tokenizer.eos_token_id not in template.suffix
        assert make_template("eos", tokenizer) == Template("eos", (1,), (tokenizer.eos_token_id,))
    assert own_prefix(_llama(add_bos_token=False)) == ()


def test_eos_needs_an_end_token():
    tokenizer = _fast("<pad>", pad_token="<pad>")
    with pytest.raises(ModelError, match="needs an end-of-sequence token"):
        make_template("eos", tokenizer)


def test_a_template_that_adds_nothing_is_refused():
    with pytest.raises(ConfigError, match="adds no token"):
        make_template("{text}", byte_tokenizer())


def test_the_hash_tells_templates_apart_by_their_ids():
    one, same, moved = (
        Template("x", (1, 2), (3,)),
        Template("another name", (1, 2), (3,)),
        Template("x", (1,), (2, 3)),
    )
    assert one.hash == same.hash != moved.hash
    assert len(one.hash) == 16


# writing it into the tokenizer


def _installed(tokenizer, source="Text: {text} Topic:", max_length=64, truncation="head"):
    template = make_template(source, tokenizer)
    install(template, tokenizer, max_length, truncation)
    return template


@pytest.mark.parametrize("source", ["a: {text} , b", "eos", "a {text}", "{text} a"])
@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_an_installed_template_survives_saving_and_reloading(tmp_path, name, source):
    tokenizer = TOKENIZERS[name]()
    size = len(tokenizer)
    template = _installed(tokenizer, source)
    tokenizer.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("a b c", "", "<s> b </s>", "<pad><|end|>", "a!"):
        bare = _ids(tokenizer, text)
        expected = [*template.prefix, *bare, *template.suffix]
        assert tokenizer(text)["input_ids"] == expected
        assert reloaded(text)["input_ids"] == expected
    assert len(reloaded) == size, "no token was added, so no embedding has to grow"
    assert reloaded.pad_token_id == tokenizer.pad_token_id is not None
    assert reloaded.padding_side == "right"
    assert reloaded.model_max_length == 64


special_mixed = st.lists(
    st.sampled_from(["<|end|>", "<|start|>", "a", " ", "é", "\U0001f600", "\n"]), max_size=12
).map("".join)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(special_mixed)
def test_no_text_can_contain_a_special_token(text):
    tokenizer = byte_tokenizer()
    template = _installed(tokenizer)
    inside = tokenizer(text)["input_ids"][len(template.prefix) : -len(template.suffix)]
    assert not {tokenizer.eos_token_id, tokenizer.bos_token_id} & set(inside)
    assert tokenizer.decode(inside) == text


@pytest.mark.parametrize("name", ["byte", "llama", "gemma"])
def test_special_tokens_of_a_text_stay_plain_characters_after_reloading(tmp_path, name):
    tokenizer = TOKENIZERS[name]()
    _installed(tokenizer, "a {text} b")
    tokenizer.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    text = f"a{reloaded.eos_token}b{reloaded.bos_token}{reloaded.pad_token}"
    inside = reloaded(text, add_special_tokens=False)["input_ids"]
    named = {reloaded.eos_token_id, reloaded.bos_token_id, reloaded.pad_token_id}
    assert not (named - {reloaded.unk_token_id}) & set(inside)


@pytest.mark.parametrize("truncation", ["head", "tail"])
@pytest.mark.parametrize("name", ["byte", "llama", "gemma"])
def test_the_saved_tokenizer_cuts_the_text_only(tmp_path, name, truncation):
    tokenizer = TOKENIZERS[name]()
    template = _installed(tokenizer, "a: {text} , b", max_length=20, truncation=truncation)
    tokenizer.save_pretrained(tmp_path)
    text = " ".join("abcdefghijklmnop")
    bare, room = _ids(tokenizer, text), 20 - template.extra
    kept = bare[:room] if truncation == "head" else bare[-room:]
    found = AutoTokenizer.from_pretrained(tmp_path)(text, truncation=True)["input_ids"]
    assert found == [*template.prefix, *kept, *template.suffix]


def test_a_max_length_without_room_for_a_text_is_refused():
    tokenizer = byte_tokenizer()
    template = make_template("summary", tokenizer)
    with pytest.raises(ConfigError, match=f"the template alone has {template.extra} tokens"):
        install(template, tokenizer, template.extra, "head")


# the padding token


@pytest.mark.parametrize(
    ("tokenizer", "source", "pad"),
    [
        (lambda: _fast("<pad>", "<eos>", pad_token="<pad>", eos_token="<eos>"), "a {text} b", "<pad>"),
        (lambda: _fast("<eos>", "<x>", pad_token="<eos>", eos_token="<eos>", bos_token="<x>"), "eos", "<x>"),
        (
            lambda: _fast(
                "<eos>", "<reserved_7>", eos_token="<eos>", additional_special_tokens=["<reserved_7>"]
            ),
            "eos",
            "<reserved_7>",
        ),
        (lambda: _fast("<eos>", eos_token="<eos>"), "a {text} b", "<eos>"),
        (lambda: _fast("<eos>", "<unk>", eos_token="<eos>", unk_token="<unk>"), "eos", "<unk>"),
    ],
)
def test_a_padding_token_is_found_among_the_models_own(tokenizer, source, pad):
    made = tokenizer()
    template = make_template(source, made)
    assert choose_pad(made, template) == pad
    assert made.convert_tokens_to_ids(pad) != template.suffix[-1]


@pytest.mark.parametrize("source", ["eos", "a {text} b", "a {text}", "{text} b"])
@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_padding_is_never_the_final_token(name, source):
    """transformers pools at the right-most token that is not pad; a text may end in anything but special tokens."""
    tokenizer = TOKENIZERS[name]()
    _installed(tokenizer, source)
    pad = tokenizer.pad_token_id
    for text in ("a", "", "!", "文", "<pad>", "<unk>", "<s>", "</s>", "<|end|>", "<|start|>"):
        assert tokenizer(text)["input_ids"][-1] != pad, text


def test_an_unknown_word_at_the_end_is_not_taken_for_padding():
    """Nothing after the text, and unk is the first special token that is not eos."""
    vocabulary = {"<unk>": 0, "<eos>": 1, "a": 2, "b": 3}
    backend = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<eos>")
    _installed(tokenizer, "a {text}")
    assert tokenizer("b strange")["input_ids"] == [2, 3, tokenizer.unk_token_id]
    assert tokenizer.pad_token == "<eos>"


def test_a_bos_before_an_empty_text_is_not_taken_for_padding():
    tokenizer = _llama(add_bos_token=True)
    _installed(tokenizer, "{text}")
    assert tokenizer("")["input_ids"] == [tokenizer.bos_token_id]
    assert tokenizer.pad_token_id not in (tokenizer.bos_token_id, tokenizer.unk_token_id)


def test_no_spare_token_and_nothing_after_the_text_is_refused():
    tokenizer = _fast()
    with pytest.raises(ModelError, match="no special token to pad with"):
        choose_pad(tokenizer, make_template("a {text}", tokenizer))


def test_the_named_templates_are_those_that_the_settings_know():
    assert {*NAMED, "eos"} == set(HEAD_TEMPLATES)


def test_labels_are_listed_before_the_text_as_one_string_would_be():
    tokenizer = byte_tokenizer()
    template = make_template("labels", tokenizer, ("a b", "c"))
    assert template.prefix == tuple(
        tokenizer('One of: a b, c.\nThis sentence: "', add_special_tokens=False)["input_ids"]
    )
    assert template.suffix == make_template("summary", tokenizer).suffix


def test_places_in_a_label_are_words():
    tokenizer = byte_tokenizer()
    template = make_template("{labels}: {text} is", tokenizer, ("{text}", "{labels}"))
    assert tokenizer.decode(template.prefix) == "{text}, {labels}: "
    assert tokenizer.decode(template.suffix) == " is"


def test_a_label_that_holds_a_special_token_is_refused():
    with pytest.raises(ConfigError, match=r"'a <\|end\|>' holds '<\|end\|>', a special token"):
        make_template("labels", _fast("<|end|>", eos_token="<|end|>"), ("fine", "a <|end|>"))
