"""Settings of method instruct that cannot work are refused in one sentence each: B7, B9."""

from __future__ import annotations

import re
import shutil

import pytest

from sortal.cli.main import main
from tiny_runs import write_csv


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
