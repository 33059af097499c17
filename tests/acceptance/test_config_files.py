"""The settings files in configs/: each is valid, says what its comments claim, and runs on data of its form."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from benchmarks.wipo_records import write_collection

from sortal.cli.main import main
from sortal.config_files import load_config, read_yaml
from sortal.data.wipo.rows import LABEL_COLUMNS, SCHEMA
from sortal.run import run

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").rglob("*.yaml"))
TINY = {
    "dtype": "float32",
    "epochs": 1,
    "batch_size": 16,
    "max_length": 64,
    "threads": 1,
    "n_resamples": 100,
}


def named(path: Path) -> str:
    return path.relative_to(ROOT / "configs").as_posix()


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_settings_file_is_valid_and_its_own_command_names_it(path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    place = path.relative_to(ROOT).as_posix()
    assert main(["config", "validate", place]) == 0
    assert f"sortal train --config {place}" in path.read_text(encoding="utf-8")
    config = load_config(path)
    assert (config.out or "").startswith("runs/")
    assert f"{config.method}.yaml" in path.name


@pytest.mark.parametrize("path", [f for f in FILES if f.parent.name == "wipo-alpha"], ids=named)
def test_columns_are_those_of_the_import(path):
    config = load_config(path)
    assert {*config.text, config.label, config.id} <= set(SCHEMA.names)
    further = re.search(r"--also-label (\w+)", path.read_text(encoding="utf-8"))
    assert further
    assert (config.label, further[1]) == LABEL_COLUMNS[config.label]
    assert f"evaluate {config.out}/model {config.test} " in path.read_text(encoding="utf-8")


def test_levels_and_methods_are_all_there():
    names = {path.stem for path in FILES if path.parent.name == "wipo-alpha"}
    assert names == {
        f"{level}-{method}" for level in ("class", "subclass") for method in ("head", "instruct", "probe")
    }


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wipo")
    write_collection(folder / "c", 180, description_words=10)
    words = ["import", "wipo-alpha", str(folder / "c"), "--out", str(folder / "wipo"), "--workers", "1"]
    assert main(words) == 0
    return folder / "wipo"


@pytest.mark.parametrize("name", ["class-head", "subclass-instruct", "class-probe"])
def test_a_wipo_file_trains_a_tiny_model_on_generated_records(name, imported, tiny, tmp_path):
    given = read_yaml(ROOT / "configs" / "wipo-alpha" / f"{name}.yaml")
    changed = {"data": str(imported / "train.parquet"), "test": str(imported / "test.parquet")}
    changed |= {"model": str(tiny), "out": str(tmp_path / "run"), **TINY}
    changed |= {"max_length": 256, "shortlist": 4} if given["method"] == "instruct" else {}
    if given["method"] == "probe":
        changed = {key: value for key, value in changed.items() if key not in ("epochs", "batch_size")}
    config = load_config(None, {**given, **changed})
    result = run(config, say=lambda line: None, quiet=True)
    assert result.metrics["n"] == 60
    assert len(result.classifier.classes_) == {"class": 12, "subclass": 15}[config.label or ""]
    assert 0 <= result.metrics["accuracy"] <= 1


@pytest.mark.parametrize("path", [f for f in FILES if f.parent.name == "patents-wide"], ids=named)
def test_the_sample_has_the_columns_of_its_files(path):
    config = load_config(path)
    with (ROOT / config.data).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*config.text, *config.label_columns]
    assert len(config.label_columns) == 14
    for name in config.label_columns:
        assert sum(row[name] == "1" for row in rows) >= 3
    assert len({row["abstract"] for row in rows}) == len(rows)


@pytest.mark.parametrize("method", ["head", "instruct", "probe"])
def test_a_wide_file_trains_a_tiny_model_on_the_sample(method, tiny, tmp_path):
    given = read_yaml(ROOT / "configs" / "patents-wide" / f"{method}.yaml")
    changed = {"data": str(ROOT / given["data"]), "model": str(tiny), "out": str(tmp_path / "run"), **TINY}
    changed |= {"max_length": 512, "negatives": 2} if method == "instruct" else {}
    if method == "probe":
        changed = {key: value for key, value in changed.items() if key not in ("epochs", "batch_size")}
    result = run(load_config(None, {**given, **changed}), say=lambda line: None, quiet=True)
    assert result.classifier.classes_ == tuple(given["label_columns"])
    assert 0 <= result.metrics["f1_micro"] <= 1
