from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from model_files import byte_tokenizer
from sortal.backbone.encoding import cut, encode_after
from sortal.errors import ConfigError, ModelError
from sortal.prompting.prompt import TEXT_TOKENS, Prompt
from sortal.prompting.shots import SHOT_TOKENS, Shot
from sortal.prompting.template import make_prompt_text
from sortal.prompting.verbalizer import Verbalizer

CHAT = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
END, START = 0, 1
LINES = "Classify the text into one of these labels:\n{labels}\n\n{examples}Text: {text}\nLabel:"
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


def _byte_with_bos():
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|start|> $A", special_tokens=[("<|start|>", START)]
    )
    return tokenizer


def _words():
    """Byte-level with a few merges: words have one token and swallow the space before them; so have two line ends, if nothing follows."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "g"), ("g", "o"), ("Ġg", "o"), ("o", "d"), ("Ġgo", "od"), ("a", "b"), ("Ġ", "ab")]
    merges += [("Ċ", "Ċ"), ("go", "od"), ("Ġ", "y"), ("Ġy", "e"), ("Ġye", "s"), ("Ġ", "n"), ("Ġn", "o")]
    vocabulary = ["<|end|>", "<|start|>", *letters, *("".join(pair) for pair in merges)]
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(vocabulary)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", bos_token="<|start|>")


def _pieces():
    """In the way of SentencePiece: a space is put before whatever is encoded on its own, and BOS before that."""
    letters = ["▁", "\n", *(chr(i) for i in range(33, 127))]
    merges = [("▁", "g"), ("▁g", "o"), ("o", "d"), ("▁go", "od"), ("a", "b")]
    vocabulary = ["<|end|>", "<|start|>", *letters, *("".join(pair) for pair in merges)]
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(vocabulary)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    backend.post_processor = TemplateProcessing(single="<|start|> $A", special_tokens=[("<|start|>", START)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", bos_token="<|start|>")


TOKENIZERS = {
    "bytes": byte_tokenizer(),
    "bytes+bos": _byte_with_bos(),
    "words": _words(),
    "pieces": _pieces(),
}
plain_words = st.text(st.sampled_from("ab god\n:,.-"), max_size=12)
names = st.lists(
    st.text(st.sampled_from("god ab-/"), min_size=1, max_size=8).map(str.strip).filter(bool),
    min_size=1,
    max_size=5,
    unique=True,
).map(tuple)


def _chat_tokenizer(template=CHAT, bos=False):
    tokenizer = _byte_with_bos() if bos else byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def _prompt(source=LINES, labels=("good", "bad"), tokenizer=None, form="label", listed=None, **more):
    tokenizer = byte_tokenizer() if tokenizer is None else tokenizer
    format_ = more.pop("format_", "auto")
    text = make_prompt_text(source, form, tokenizer, format_)
    return Prompt(tokenizer, text, form, Verbalizer(tuple(labels), tuple(listed or labels)), **more)


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


def _of_text(prompt, text):
    return prompt.encode([text])[0].tolist()


# right after a context


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


# the whole prompt


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
@settings(max_examples=40, deadline=None)
@given(
    source=st.sampled_from(SOURCES),
    labels=names,
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
    prompt = _prompt(source, labels, tokenizer, shots=shots)
    order = data.draw(st.permutations(range(len(labels))))[: data.draw(st.integers(1, len(labels)))]
    for chosen in (None, order):
        whole = _rendered(prompt, text, chosen)
        lead = "" if whole[-1:].isspace() else " "
        beginning = [*prompt.shared(chosen).tolist(), *_of_text(prompt, text)]
        for label, answer in zip(labels, prompt.answers, strict=True):
            assert [*beginning, *answer] == _encoded(tokenizer, whole + lead + label)


@settings(max_examples=40, deadline=None)
@given(
    source=st.sampled_from([LINES, INLINE, "One of {labels}: {text}\nLabel:\n", "{text}\n\nIts label:"]),
    labels=names,
    text=plain_words,
    shown=plain_words,
    bos=st.booleans(),
)
def test_in_the_chat_format_the_special_tokens_are_the_only_ones(source, labels, text, shown, bos):
    tokenizer = _chat_tokenizer(bos=bos)
    shots = (Shot(shown, (0,)),) if "{examples}" in source else ()
    prompt = _prompt(source, labels, tokenizer, shots=shots)
    whole = _rendered(prompt, text)
    expected = encode_after(tokenizer, "", [whole], special=True)[0]
    assert [*prompt.shared().tolist(), *_of_text(prompt, text)] == expected
    assert expected.count(START) == 2
    assert expected[0] == START, "the template's first token is also the tokenizer's own: not doubled"
    for label, answer in zip(labels, prompt.answers, strict=True):
        assert [*expected, *answer] == encode_after(tokenizer, "", [whole + label], special=True)[0]


@pytest.mark.parametrize("format_", ["plain", "chat"])
@pytest.mark.parametrize("source", [LINES, BARE, "{text}\nLabel:"])
@pytest.mark.parametrize("opening", ["", "<|start|>"])
def test_the_first_token_of_the_tokenizer_comes_exactly_once(source, format_, opening):
    template = opening + "User: {{ messages[0]['content'] }}\nAssistant:\n"
    for tokenizer, own in ((_chat_tokenizer(template), 0), (_chat_tokenizer(template, bos=True), 1)):
        prompt = _prompt(source, tokenizer=tokenizer, format_=format_)
        written = int(format_ == "chat" and bool(opening))
        shared = prompt.shared().tolist()
        assert shared.count(START) == max(own, written)
        assert (shared[:1] == [START]) == bool(own or written)
        assert START not in _of_text(prompt, "x")


@pytest.mark.parametrize("text", HARD)
def test_special_tokens_in_texts_labels_and_examples_are_plain_characters(text):
    """B6: only the chat format's own special tokens are special."""
    wording = f"a{text}"
    prompt = _prompt(
        labels=("good", wording), tokenizer=_chat_tokenizer(), shots=(Shot(text, (1,)), Shot("x", (0,)))
    )
    shared, own = prompt.shared().tolist(), _of_text(prompt, text)
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
    prompt = _prompt("<|start|>Text: {text}<|end|>\nLabel:")
    assert prompt.shared()[0] == START
    assert prompt.cue[0] == END


def test_a_sentence_piece_answer_has_one_space_and_not_two():
    prompt = _prompt(labels=("good", "bad"), tokenizer=_pieces())
    assert prompt.tokenizer.convert_ids_to_tokens(prompt.answers[0]) == ["▁good"]
    assert prompt.tokenizer.convert_ids_to_tokens(_of_text(prompt, "good"))[0] == "▁good"


def test_after_an_example_a_text_begins_on_a_new_line_and_not_in_a_new_document():
    tokenizer = _pieces()
    alone, after = (_prompt(BARE, tokenizer=tokenizer, shots=shots) for shots in ((), (Shot("good", (0,)),)))
    assert tokenizer.convert_ids_to_tokens(_of_text(alone, "good"))[:2] == ["▁good", "\n"]
    assert tokenizer.convert_ids_to_tokens(_of_text(after, "good"))[:4] == ["g", "o", "od", "\n"]


# the label list


@settings(max_examples=30, deadline=None)
@given(names, st.sampled_from([LINES, INLINE, BARE]), st.data())
def test_any_order_of_the_labels_has_the_same_number_of_tokens(labels, source, data):
    prompt = _prompt(source, labels, listed=[f"{label}!" for label in labels])
    order = data.draw(st.permutations(range(len(labels))))
    plain, shuffled = prompt.shared(), prompt.shared(order)
    assert len(plain) == len(shuffled)
    shown = _rendered(prompt, "\0", order).partition("\0")[0].rstrip(" ")
    assert prompt.tokenizer.decode(shuffled) == shown


def test_the_list_shows_the_descriptions_and_the_answers_are_the_wordings():
    prompt = _prompt(labels=("A", "B"), listed=("A: fine things", "B: the rest"))
    shown = prompt.tokenizer.decode(prompt.shared())
    assert "labels:\nA: fine things\nB: the rest\n\nText:" in shown
    assert prompt.tokenizer.decode(prompt.response([0])) == " A<|end|>"


def test_a_template_that_lists_no_labels_has_no_label_list():
    prompt = _prompt("Text: {text}\nLabel:")
    assert prompt.label_list().dtype == np.int64
    assert len(prompt.label_list()) == 0
    assert prompt.tokenizer.decode(prompt.shared()) == "Text:"


# examples


def test_examples_show_text_and_labels_in_the_form_of_the_answer():
    prompt = _prompt(
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
    prompt = _prompt(shots=(Shot(long, (1,)),), truncation=truncation)
    bare = encode_after(prompt.tokenizer, "", [" " + long])[0]
    kept = prompt.tokenizer.decode(cut(np.array(bare), SHOT_TOKENS, truncation))
    assert prompt.tokenizer.decode(prompt.shared()).endswith(f"\n\nText:{kept}\nLabel: bad\n\nText:")


def test_examples_without_a_place_for_them_are_refused():
    prompt = _prompt("{labels}\nText: {text}\nLabel:", shots=(Shot("a", (0,)),))
    with pytest.raises(ConfigError, match="no place for examples") as error:
        prompt.shared()
    assert "{examples}" in error.value.fix


# lengths


@settings(max_examples=40, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    room=st.integers(1, 25),
    truncation=st.sampled_from(["head", "tail", "head+tail"]),
    chat=st.booleans(),
)
def test_truncation_cuts_nothing_but_the_text(text, room, truncation, chat):
    """S14."""
    tokenizer = _chat_tokenizer() if chat else byte_tokenizer()
    draft = _prompt(tokenizer=tokenizer, shots=(Shot("x", (0,)),))
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
@given(labels=names, max_labels=st.integers(1, 4), data=st.data())
def test_no_answer_is_longer_than_the_longest(labels, max_labels, data):
    prompt = _prompt(labels=labels, form="list", max_labels=max_labels)
    chosen = data.draw(st.lists(st.integers(0, len(labels) - 1), max_size=max_labels, unique=True))
    assert len(prompt.response(chosen)) <= prompt.longest_answer
    single = _prompt(labels=labels)
    assert single.longest_answer == max(len(single.response([i])) for i in range(len(labels)))


@pytest.mark.parametrize("form", ["label", "list", "each"])
def test_a_prompt_without_room_for_a_text_is_refused(form):
    draft = _prompt(form=form)
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
        _prompt(source).encode([""])
    assert len(_prompt(source, tokenizer=_chat_tokenizer()).encode([""])[0]) > 0


def test_without_max_length_a_text_has_its_usual_room():
    prompt = _prompt()
    encoded = prompt.encode(["x" * 1000])
    assert len(encoded[0]) == TEXT_TOKENS + len(prompt.cue)
    assert prompt.longest() == len(prompt.shared()) + len(encoded[0]) + prompt.longest_answer
    assert replace(prompt, max_length=400).longest() == 400


def test_a_list_beside_each_text_takes_the_place_of_the_shared_one():
    prompt = _prompt(labels=("a", "bb", "cccc", "ddd"), max_length=200)
    listed = len(prompt.label_list([1, 3]))
    encoded = prompt.encode(["x" * 1000], listed)
    whole = len(prompt.head) + listed + len(prompt.tail) + len(encoded[0]) + prompt.longest_answer
    assert whole == 200
    assert replace(prompt, max_length=None).longest(2) < replace(prompt, max_length=None).longest()


# answers


def test_a_list_answer_separates_labels_and_ends_once():
    prompt = _prompt(labels=("one", "two", "two and more"), form="list")
    assert prompt.tokenizer.decode(prompt.response([2, 0])) == " one, two and more<|end|>"
    assert prompt.response([]) == [END]
    assert prompt.tokenizer.decode(prompt.separator) == ","


def test_the_separator_is_a_sign_that_no_label_contains():
    assert _prompt(labels=("a, b", "c"), form="list").separator_text == ";"
    prompt = _prompt(labels=("a, b", "c;d|e", "f"), form="list")
    assert prompt.separator_text == "/"
    assert prompt.tokenizer.decode(prompt.response([0, 2])) == " a, b/ f<|end|>"
    assert prompt.listed_answer([2, 0]) == "a, b/ f"
    with pytest.raises(ConfigError, match=r"every one of , ; \| / # occurs in a label"):
        _ = _prompt(labels=("a,;|/#",), form="list").separator_text


@pytest.mark.parametrize("chat", [False, True])
def test_each_label_is_asked_for_in_a_line_of_its_own(chat):
    tokenizer = _chat_tokenizer() if chat else byte_tokenizer()
    prompt = _prompt("classify", ("one", "two words"), tokenizer, form="each")
    asked = [tokenizer.decode(branch) for branch in prompt.branches]
    assert asked == (["one:", "two words:"] if chat else ["\none:", "\ntwo words:"])
    assert prompt.longest_answer == 1 + max(map(len, prompt.branches))


def test_a_label_that_no_list_describes_is_asked_for_with_its_description():
    alone = _prompt("classify", ("a1",), form="each", listed=("a1: farming",))
    assert [alone.tokenizer.decode(branch) for branch in alone.branches] == ["\na1: farming:"]
    listing = "Which apply?\n{labels}\nText: {text}\nLabels:"
    listed = _prompt(listing, ("a1",), form="each", listed=("a1: farming",))
    assert [listed.tokenizer.decode(branch) for branch in listed.branches] == ["\na1:"]


@pytest.mark.parametrize(("name", "expected"), [("words", [" yes", " no"]), ("bytes", ["y", "n"])])
def test_yes_and_no_are_told_apart_by_one_token(name, expected):
    prompt = _prompt(form="each", tokenizer=TOKENIZERS[name])
    assert [prompt.tokenizer.decode(token) for token in prompt.yes_no] == expected


def test_one_token_codes_are_judged_where_the_answer_stands():
    plain, chat = _prompt(tokenizer=_words()), _prompt("One: {text}\n", tokenizer=_words())
    assert [plain.is_one_token(w) for w in ("good", "go", "a", "x")] == [True, True, False, False]
    assert [chat.is_one_token(w) for w in ("good", "go", "a", "x")] == [True, True, True, True]


def test_wordings_that_are_the_same_tokens_are_both_named():
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(ConfigError, match="the wordings 'Good' and 'gOOD' are the same tokens"):
        _ = _prompt(labels=("Good", "bad", "gOOD"), tokenizer=tokenizer).answers


def test_a_wording_without_tokens_is_refused():
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    with pytest.raises(ConfigError, match="has no tokens in this model's vocabulary"):
        _ = _prompt("{text}\nLabel:\n", ("\u200b", "b"), tokenizer).answers


def test_an_answer_needs_a_token_that_ends_it():
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        _prompt(tokenizer=tokenizer).response([0])


# the hash

SHOTS = (Shot("a", (0,)), Shot("b", (1,)))


@pytest.mark.parametrize("form", ["label", "list", "each"])
def test_the_hash_changes_with_everything_that_is_read_or_answered(form):
    def make(**changes):
        values = {"source": LINES, "labels": ("good", "bad"), "form": form, "shots": SHOTS}
        return _prompt(**(values | changes))

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
        "chat": make(tokenizer=_chat_tokenizer()),
        "bos": make(tokenizer=_byte_with_bos()),
        "vocabulary": make(tokenizer=_words()),
    }
    hashes = {name: prompt.hash for name, prompt in changed.items()}
    assert len(set(hashes.values())) == len(hashes), hashes
    assert make().hash == hashes["same"]
    assert len(hashes["same"]) == 16


@pytest.mark.parametrize("form", ["label", "list", "each"])
def test_the_hash_covers_how_nearest_examples_are_shown(form):
    def make(source=LINES, size=2, **changes):
        return _prompt(
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
    assert len({_prompt(form=form).hash for form in ("label", "list", "each")}) == 3


def test_an_encoding_in_between_leaves_the_prompt_as_it_was():
    """The tokenizer is shared and keeps state; neither padding nor special tokens may leak into a prompt."""
    tokenizer = _chat_tokenizer()
    prompt, again = _prompt(tokenizer=tokenizer), _prompt(tokenizer=tokenizer)
    before = (prompt.hash, _of_text(prompt, "<|end|>"))
    tokenizer.pad_token = "<|end|>"
    tokenizer(["a", "b<|end|>" * 9], padding=True, truncation=True, max_length=5, split_special_tokens=False)
    assert (again.hash, _of_text(again, "<|end|>")) == before
