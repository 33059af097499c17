"""Many labels, and what method instruct refuses: B4, B8, B9."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import sortal
from instruct_runs import (
    instruct,
    read_json,
    texts_of,
)
from sortal.cli.main import main
from sortal.errors import ModelError
from tiny_runs import edit_json, write_csv

# many labels: --shortlist


@pytest.fixture(scope="module")
def many(bases, tmp_path_factory):
    """A run with 520 labels, five candidates for each text; some dev and test texts hold no known word."""
    folder = tmp_path_factory.mktemp("many")
    names = [f"label {i:03d}" for i in range(520)]
    train = [(f"word{i:03d} text", names[i]) for i in range(520)]
    others = [(f"word{i:03d} again", names[i]) for i in range(0, 520, 13)] + [("nothing known", names[519])]
    data = write_csv(folder / "train.csv", train)
    dev = write_csv(folder / "dev.csv", others)
    test = write_csv(folder / "test.csv", [(f"{text} here", label) for text, label in others])
    said: list[str] = []
    result = instruct(
        data,
        bases["llama"],
        folder / "run",
        said=said,
        dev=str(dev),
        test=str(test),
        shortlist=5,
        batch_size=64,
        max_length=256,
    )
    return SimpleNamespace(
        result=result, classifier=result.classifier, model=folder / "run" / "model", said=said, names=names
    )


def test_b4_520_labels_are_scored_through_five_candidates(many):
    texts = [f"word{i:03d} text" for i in range(0, 520, 40)] + ["", "nothing known", "<|end|>"]
    probabilities = many.classifier.predict_proba(texts)
    assert probabilities.shape == (len(texts), 520)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=0, atol=1e-6)
    candidates = many.classifier.scorer.shortlist.propose(texts)
    for row, own in zip(probabilities, candidates, strict=True):
        rest = np.setdiff1d(np.arange(520), own)
        assert (row[rest] == 0).all(), "exactly 0 for what was not proposed"
    assert np.isneginf(many.classifier.scorer.score(texts)).sum() == len(texts) * 515
    for i, own in zip(range(0, 520, 40), candidates, strict=False):
        assert i in own
    assert set(many.classifier.predict(texts)) <= set(many.names)


def test_the_recall_of_the_shortlist_is_said_and_kept(many):
    found = many.result.record["training"]["shortlist_recall"]
    assert found == pytest.approx(40 / 41)
    assert any("shortlist of 5: 97.6 % of the dev labels are among the candidates" in s for s in many.said)
    strict = (many.result.folder / "metrics.json").read_text(encoding="utf-8")
    json.loads(strict, parse_constant=lambda word: pytest.fail(f"{word}: a missed label has probability 0"))


def test_only_candidates_are_listed_and_the_shared_prompt_is_short(many):
    scorer = many.classifier.scorer
    trunks = scorer.trunks(["word007 text"])
    decode = scorer.prompt.tokenizer.decode
    names = [many.classifier.classes_[i] for i in trunks.candidates[0]]
    assert decode(trunks.shared) == "Classify the text into one of these labels:\n"
    assert decode(trunks[0]) == "\n".join(names) + "\n\nText: word007 text\nLabel:"
    assert many.result.record["training"]["prompt_tokens"] == len(trunks.shared) < 60


def test_s3_a_shortlisted_model_loads(many):
    texts = ["word003 x", "", "word519 word003"]
    again = sortal.load(many.model)
    np.testing.assert_allclose(
        again.predict_proba(texts), many.classifier.predict_proba(texts), rtol=0, atol=2e-5
    )


def test_s2_a_shortlisted_text_is_cut_alike_alone_and_in_company(many):
    """Candidates have names of different lengths; how much of a text is kept must not depend on its neighbours'."""
    scorer = many.classifier.scorer
    texts = ["word003 " + "long " * 100, "x", "word100 " + "also long " * 50]
    together, reversed_ = scorer.trunks(texts), scorer.trunks(texts[::-1])
    for i, text in enumerate(texts):
        alone = scorer.trunks([text])
        assert alone[0].tolist() == together[i].tolist() == reversed_[2 - i].tolist()
    assert together.texts.truncated == 2


def test_s14_lists_of_different_lengths_leave_texts_the_same_room(tiny, tmp_path):
    labels = ("a", "bb", "quite a long name for a label", "another name that is long")
    lines = [(f"{'xyzw'[i % 4] * 5}{i % 4} {'more ' * 30}{i}", labels[i % 4]) for i in range(48)]
    result = instruct(
        write_csv(tmp_path / "d.csv", lines), tiny, tmp_path / "run", shortlist=2, max_length=200
    )
    scorer = result.classifier.scorer
    texts = [text for text, _ in lines[:8]]
    trunks = scorer.trunks(texts)
    assert len({tuple(row) for row in trunks.candidates.tolist()}) > 1
    assert trunks.texts.truncated == len(texts)
    assert len(set(trunks.texts.lengths.tolist())) == 1
    for i, text in enumerate(texts):
        assert scorer.trunks([text])[0].tolist() == trunks[i].tolist()
        assert len(trunks.shared) + len(trunks[i]) + scorer.prompt.longest_answer <= 200


@pytest.mark.parametrize("form", ["each", "list"])
def test_labels_that_were_not_proposed_are_never_given(runs, form):
    run = runs(form, shortlist=2)
    texts = texts_of(form)
    probabilities, scores = run.classifier.predict_proba(texts), run.scorer.score(texts)
    candidates = run.scorer.shortlist.propose(texts)
    for row, found, own in zip(probabilities, scores, candidates, strict=True):
        (rest,) = set(range(3)) - set(own.tolist())
        assert row[rest] == 0
        assert np.isneginf(found[rest])
        assert np.isfinite(found[own]).all()
    again = sortal.load(run.model)
    np.testing.assert_allclose(again.predict_proba(texts), probabilities, rtol=0, atol=2e-5)


def test_b8_a_shortlist_of_another_run_is_refused(many, tmp_path):
    shutil.copytree(many.model, tmp_path / "model")
    edit_json(tmp_path / "model" / "shortlist.json", size=4)
    with pytest.raises(ModelError, match="shortlist"):
        sortal.load(tmp_path / "model")
    (tmp_path / "model" / "shortlist.json").unlink()
    with pytest.raises(ModelError, match="is missing"):
        sortal.load(tmp_path / "model")


# B8: folders that are not what they were


@pytest.fixture
def folder(runs, tmp_path):
    """A copy of a model folder to damage."""
    shutil.copytree(runs("label").model, tmp_path / "model")
    return tmp_path / "model"


def _prompt(folder, **changes):
    edit_json(folder / "sortal.json", prompt={**read_json(folder / "sortal.json")["prompt"], **changes})


def _turned(values):
    return [*values[1:], values[0]]


EDITS = {
    "label order": lambda f: edit_json(
        f / "sortal.json", labels=_turned(read_json(f / "sortal.json")["labels"])
    ),
    "config's label order": lambda f: edit_json(
        f / "config.json",
        id2label={str(i): n for i, n in enumerate(_turned(read_json(f / "sortal.json")["labels"]))},
    ),
    "one label more": lambda f: edit_json(
        f / "sortal.json", labels=[*read_json(f / "sortal.json")["labels"], "x"]
    ),
    "answers": lambda f: _prompt(f, answers=_turned(read_json(f / "sortal.json")["prompt"]["answers"])),
    "one answer": lambda f: _prompt(f, answers=["x", *read_json(f / "sortal.json")["prompt"]["answers"][1:]]),
    "one answer less": lambda f: _prompt(f, answers=read_json(f / "sortal.json")["prompt"]["answers"][1:]),
    "listed": lambda f: _prompt(f, listed=_turned(read_json(f / "sortal.json")["prompt"]["listed"])),
    "instruction": lambda f: _prompt(
        f, text={**read_json(f / "sortal.json")["prompt"]["text"], "before": "Do as you like:\n"}
    ),
    "cue": lambda f: _prompt(f, text={**read_json(f / "sortal.json")["prompt"]["text"], "after": "\nTopic:"}),
    "unknown part": lambda f: _prompt(f, text={**read_json(f / "sortal.json")["prompt"]["text"], "more": ""}),
    "shots": lambda f: _prompt(f, shots=[["a text", [0]]]),
    "form": lambda f: _prompt(f, form="each"),
    "no form": lambda f: _prompt(f, form="none"),
    "answers are a number": lambda f: _prompt(f, answers=7),
    "no prompt": lambda f: _without(f, "prompt"),
    "no scoring": lambda f: _without(f, "scoring"),
    "no dtype": lambda f: _without(f, "dtype"),
    "unknown dtype": lambda f: edit_json(f / "sortal.json", dtype="float7"),
    "unknown scoring": lambda f: edit_json(f / "sortal.json", scoring={"max_labels": 1, "sharpness": 2}),
    "tokenizer": lambda f: _edit_vocabulary(f),
    "adapter rank": lambda f: edit_json(f / "adapter_config.json", r=4),
    "adapter targets": lambda f: edit_json(f / "adapter_config.json", target_modules=["q_proj"]),
}


def _without(folder, key):
    meta = read_json(folder / "sortal.json")
    meta.pop(key)
    (folder / "sortal.json").write_text(json.dumps(meta), encoding="utf-8")


def _edit_vocabulary(folder):
    backend = read_json(folder / "tokenizer.json")
    vocabulary = backend["model"]["vocab"]
    vocabulary["g"], vocabulary["h"] = vocabulary["h"], vocabulary["g"]
    edit_json(folder / "tokenizer.json", model={**backend["model"], "vocab": vocabulary})


@pytest.mark.parametrize("edit", EDITS)
def test_b8_an_edited_folder_is_refused(folder, edit, capsys):
    EDITS[edit](folder)
    with pytest.raises(ModelError) as refused:
        sortal.load(folder)
    assert str(folder) in str(refused.value) or "the saved prompt is damaged" in str(refused.value)
    assert refused.value.fix
    assert main(["predict", str(folder), "-"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


A = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.pop(A), "lacks 1 of 28"),
        (lambda t: [t.pop(key) for key in list(t) if ".layers.1." in key], "lacks 14 of 28"),
        (lambda t: t.update({A.replace("layers.1", "layers.7"): t[A].clone()}), "no place for"),
    ],
)
def test_s3_missing_and_stray_adapter_tensors_are_refused(folder, change, complaint):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="SHA-256 differs"):
        sortal.load(folder)
    meta = read_json(folder / "sortal.json")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit_json(folder / "sortal.json", files={**meta["files"], path.name: digest})
    with pytest.raises(ModelError, match=complaint):
        sortal.load(folder)


def test_b8_another_base_is_refused(folder, bases, tmp_path):
    meta = read_json(folder / "sortal.json")
    tuned = shutil.copytree(bases["llama"], tmp_path / "tuned")
    weights = load_file(tuned / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] += 1e-3
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    for base in (bases["gpt2"], bases["qwen3"], tuned):
        edit_json(folder / "sortal.json", base_model={**meta["base_model"], "spec": str(base)})
        with pytest.raises(ModelError, match="was tuned on other weights"):
            sortal.load(folder)


# B9: settings that cannot work, one sentence each


@pytest.fixture(scope="module")
def odd_files(files, tmp_path_factory):
    """Data and wordings for the refusals."""
    folder = tmp_path_factory.mktemp("odd")

    def with_labels(name, *labels):
        return write_csv(folder / name, [(f"text {i}", labels[i % len(labels)]) for i in range(30)])

    return {
        "data": files["label"],
        "topics": files["list"],
        "twins": with_labels("twins.csv", "a_b", "a b"),
        "foreign": with_labels("foreign.csv", "ab", "好"),
        "foreign topics": with_labels("foreign_topics.csv", "ab", "ab|好", "好"),
        "foreign twins": with_labels("foreign_twins.csv", "a好", "a文"),
        "separators": with_labels("separators.csv", "a,b", "c;d|e/f#g", "a,b~c;d|e/f#g"),
        "wordings": write_csv(folder / "w.csv", [("odd", "x"), ("good", "y")], ("label", "wording")),
    }


@pytest.fixture(scope="module")
def letters_only(bases, tmp_path_factory):
    """The tiny Llama under a tokenizer that knows ASCII letters and signs and drops everything else."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    folder = shutil.copytree(bases["llama"], tmp_path_factory.mktemp("letters") / "base")
    signs = ["<|end|>", "<|start|>", "\n", *map(chr, range(32, 127))]
    backend = Tokenizer(models.BPE(vocab={sign: i for i, sign in enumerate(signs)}, merges=[]))
    PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end|>", bos_token="<|start|>"
    ).save_pretrained(folder)
    return folder


REFUSED = {
    "same wording": ("twins", [], r"labels 'a_b' and 'a b' have the same wording 'a b'|same wording"),
    "no tokens": ("foreign", ["--model", "LETTERS"], "the wording '好' has no tokens"),
    "no tokens, each": (
        "foreign topics",
        ["--model", "LETTERS", "--label-delimiter", "|"],
        "the wording '好' has no tokens",
    ),
    "same tokens": ("foreign twins", ["--model", "LETTERS"], "are the same tokens"),
    "long prompt": ("data", ["--max-length", "60"], "max_length 60 leaves no room for a text"),
    "long sequence": ("data", ["--max-length", "600"], "600 tokens and the model reads 512"),
    "no text": ("data", ["--template", "Label:"], r"has no \{text\}"),
    "text twice": ("data", ["--template", "{text} {text}:"], "more than once"),
    "labels late": ("data", ["--template", "{text} of {labels}:"], "in the order"),
    "no chat": ("data", ["--set", "prompt_format=chat"], "needs a tokenizer with a chat template"),
    "setting of instruct": ("data", ["--method", "head", "--set", "shots=2"], "shots is for method instruct"),
    "list of one": ("data", ["--set", "answer=list"], "answer 'list' is for multi-label tasks"),
    "each of one": ("data", ["--set", "answer=each"], "answer 'each' is for multi-label tasks"),
    "shortlist": ("data", ["--set", "shortlist=5"], "shortlist 5 is more than the 4 labels"),
    "shortlist and shuffle": (
        "data",
        ["--set", "shortlist=2", "shuffle_labels=true"],
        "leave out shuffle_labels",
    ),
    "shuffled nothing": (
        "data",
        ["--template", "Text: {text}\nLabel:", "--set", "shuffle_labels=true"],
        "this prompt .answer 'label'. has none",
    ),
    "shortlist and prior": ("data", ["--set", "shortlist=2", "prior_correction=true"], "no candidates"),
    "all shots": ("data", ["--set", "shots=50"], "shots 50 puts every training row into the prompt"),
    "all nearest": (
        "data",
        ["--set", "shots=50", "shot_choice=nearest"],
        "shots 50 with shot_choice 'nearest' needs more than",
    ),
    "nearest nothing": ("data", ["--set", "shot_choice=nearest"], "no effect without shots"),
    "nearest in windows": (
        "data",
        ["--set", "shots=1", "shot_choice=nearest", "windows=2"],
        "shot_choice 'nearest' is for texts of one window",
    ),
    "nearest and prior": (
        "data",
        ["--set", "shots=1", "shot_choice=nearest", "prior_correction=true"],
        "prior_correction has no meaning with shot_choice 'nearest'",
    ),
    "no place for nearest": (
        "data",
        ["--template", "Text: {text}\nLabel:", "--set", "shots=1", "shot_choice=nearest"],
        "no place for examples",
    ),
    "no place for shots": (
        "data",
        ["--template", "Text: {text}\nLabel:", "--set", "shots=1"],
        "no place for examples",
    ),
    "too few codes": ("data", ["--set", "verbalizer=codes"], "one-token codes, the task has 4 labels"),
    "no such wordings": ("data", ["--set", "verbalizer=nowhere.csv"], "nor a readable file"),
    "few wordings": ("data", ["--set", "verbalizer=WORDINGS"], "has no row for 2 labels"),
    "smoothing": ("data", ["--set", "label_smoothing=0.1"], "label_smoothing does not apply"),
    "focal": ("data", ["--set", "loss=focal"], "loss does not apply"),
    "paper, each": (
        "topics",
        ["--label-delimiter", "|", "--template", "paper"],
        "no wording for answer 'each'",
    ),
    "normalised yes": (
        "topics",
        ["--label-delimiter", "|", "--set", "length_normalization=true"],
        "length_normalization is for single-label tasks",
    ),
    "normalised list": (
        "topics",
        ["--label-delimiter", "|", "--set", "answer=list", "length_normalization=true"],
        "length_normalization is for single-label tasks",
    ),
    "weighted list": (
        "topics",
        ["--label-delimiter", "|", "--set", "answer=list", "class_weight=balanced"],
        "class_weight does not apply to answer 'list'",
    ),
    "no separator": (
        "separators",
        ["--label-delimiter", "~", "--set", "answer=list"],
        "list answers need a separator",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_b9_what_cannot_work_is_refused_in_a_sentence(case, odd_files, bases, letters_only, tmp_path, capsys):
    from sortal.methods import instruct as method

    data, more, complaint = REFUSED[case]
    words = ["train", str(odd_files[data]), "--out", str(tmp_path / "run"), "--epochs", "1"]
    words += [] if "--method" in more else ["--method", "instruct"]
    words += [] if "--model" in more else ["--model", str(bases["llama"])]
    given = [w.replace("LETTERS", str(letters_only)) for w in more]
    words += [w.replace("WORDINGS", str(odd_files["wordings"])) for w in given]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, "fine_tune", lambda *a, **b: pytest.fail("it was trained first"))
        assert main(words) == 2
    error = capsys.readouterr().err
    assert re.search(complaint, error), error
    assert error.count("error: ") == 1
    assert "→" in error or case in ("setting of instruct",)
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_a_chat_model_without_a_usable_chat_template_says_so(bases, files, tmp_path, capsys):
    """B7, B9: it fails to render, or drops the message."""
    for number, template in enumerate(
        ("{{ raise_exception('no') }}", "nothing", "{{ messages[0].content[:3] }}")
    ):
        base = shutil.copytree(bases["chat"], tmp_path / f"base{number}")
        (base / "chat_template.jinja").write_text(template, encoding="utf-8")
        words = ["train", files["label"], "--model", base, "--method", "instruct", "--out", tmp_path / "run"]
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert "chat template" in error
        assert "use prompt_format plain" in error
