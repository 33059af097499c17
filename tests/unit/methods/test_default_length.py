"""How much of a text is read where no ``max_length`` says it: 256 tokens, 512 where most training texts are longer."""

from __future__ import annotations

import json
import shutil

import pytest

from sortal.backbone.sources import resolve
from sortal.config import build_config
from sortal.data.dataset import Dataset
from sortal.methods import encoder, get_method, text_folder
from sortal.methods.base import PreviewContext
from sortal.methods.text_folder import load_texts, make_encoder, save_texts
from sortal.parts import read_parts
from sortal.run import run
from sortal.training.progress import NoProgress
from tiny_runs import write_csv

LONG = "abcdefghi " * 40  # 400 tokens of the tiny models, which read bytes
SHORT = "short"


def texts(long, short):
    return Dataset.from_lists([LONG] * long + [SHORT] * short)


def with_positions(model, folder, positions):
    shutil.copytree(model, folder)
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about | {"max_position_embeddings": positions}))
    return folder


@pytest.mark.parametrize(
    ("long", "short", "settings", "length"),
    [
        (3, 2, {}, 512),
        (2, 2, {}, 256),
        (0, 4, {}, 256),
        (3, 2, {"max_length": 256}, 256),
        (3, 2, {"max_length": 96}, 96),
        (3, 2, {"windows": 3}, 256),
    ],
)
def test_it_hangs_on_how_many_texts_are_cut(tiny, long, short, settings, length):
    config = build_config({"stride": 8, **settings} if "windows" in settings else settings)
    assert make_encoder(str(tiny), config, texts(long, short)).max_length == length


def test_a_model_without_the_positions_reads_what_it_can(tiny, tiny_encoders, tmp_path):
    config = build_config({})
    assert make_encoder(str(with_positions(tiny, tmp_path / "d", 511)), config, texts(4, 0)).max_length == 256
    assert encoder.make_encoder(str(tiny_encoders["bert"]), config, texts(4, 0)).max_length < 256
    roomy = with_positions(tiny_encoders["bert"], tmp_path / "e", 512)
    assert encoder.make_encoder(str(roomy), config, texts(4, 0)).max_length == 512
    assert encoder.make_encoder(str(roomy), config, texts(1, 1)).max_length == 256


def test_a_sample_is_drawn_from_all_of_the_training_rows(tiny, monkeypatch):
    monkeypatch.setattr(text_folder, "_MEASURED", 10)
    # Of the first rows alone all are long, of the last ones none.
    assert make_encoder(str(tiny), build_config({}), texts(60, 40)).max_length == 512
    assert make_encoder(str(tiny), build_config({}), texts(40, 60)).max_length == 256


def test_it_is_saved_and_plain_tokenizers_cut_there(tiny, tmp_path):
    made = make_encoder(str(tiny), build_config({}), texts(3, 2))
    meta = save_texts(made, tmp_path)
    assert meta["max_length"] == 512
    assert len(made.tokenizer(LONG * 3, truncation=True)["input_ids"]) == 512
    assert load_texts(tmp_path, meta).max_length == 512


@pytest.mark.parametrize("method", ["head", "probe"])
def test_a_run_reads_them_and_a_preview_says_so(tiny, tmp_path, method):
    rows = [(f"{label} {i} " + LONG, label) for i in range(20) for label in ("good", "bad")]
    data = write_csv(tmp_path / "d.csv", rows)
    quick = {"epochs": 1} if method == "head" else {"template": "eos"}
    settings = {"data": str(data), "model": str(tiny), "method": method, "n_resamples": 100, **quick}
    config = build_config({**settings, "out": str(tmp_path / "run")})
    said: list[str] = []
    result = run(config, say=said.append, quiet=True)
    assert any("truncated to 512 tokens" in line for line in said)
    assert result.classifier.meta["max_length"] == 512
    parts = read_parts(config, said.append)
    source = resolve(str(tiny))
    asked = PreviewContext(source, config, parts.train, parts.label_space, 1, NoProgress())
    assert get_method(method).preview(asked).max_length == 512
