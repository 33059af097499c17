"""B4: labels that occur only in dev or test rows: refused, or taken out and counted wherever figures are shown."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

import sortal
from baseline_runs import baseline
from sortal import SortalClassifier
from sortal.cli.main import main
from sortal.comparison.compare import compare
from sortal.errors import ConfigError, DataError, InputError
from sortal.reporting.report import report
from sortal.run_parts import changed, read_run_parts
from sortal.training.runfolder import RunFolder
from tiny_runs import rows, write_csv
from tree_runs import PATHS, parent_map, several, texts_with_labels

LABELS = ("good", "bad")
UNSEEN = [("a new thing", "new"), ("another one", "newer"), ("and a third", "new")]
SAID = "Test rows with labels that were not trained on were left out: 3 of 43 (7.0%); 2 such labels."


def numbered(prefix, n):
    return [(f"{prefix} {text}", label) for text, label in rows(n, LABELS)]


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A run whose dev and test files have labels of their own."""
    folder = tmp_path_factory.mktemp("unseen")
    files = {
        "train": write_csv(folder / "train.csv", rows(60, LABELS)),
        "dev": write_csv(folder / "dev.csv", [*numbered("dev", 30), ("what is this", "odd")]),
        "test": write_csv(folder / "test.csv", [*UNSEEN[:2], *numbered("test", 40), UNSEEN[2]]),
    }
    said: list[str] = []
    made = baseline(
        files["train"],
        folder / "run",
        dev=str(files["dev"]),
        test=str(files["test"]),
        unseen_labels="drop",
        said=said,
    )
    return SimpleNamespace(files=files, folder=folder, out=folder / "run", made=made, said=said)


def test_b4_they_are_refused_and_the_error_names_the_way_out(single, tmp_path):
    with pytest.raises(DataError, match=r"dev\.csv: row 31: label 'odd' does not occur") as error:
        baseline(single.files["train"], tmp_path / "run", dev=str(single.files["dev"]))
    assert "--unseen-labels drop" in error.value.fix
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="unseen_labels"):
        baseline(single.files["train"], tmp_path / "run", unseen_labels="ignore")


def test_b4_dropped_rows_are_said_and_recorded_and_all_others_measured(single):
    assert any("dev.csv: 1 label that no training row has is taken out ('odd'): 1 of 31 rows is left out" in line for line in single.said)  # fmt: skip
    assert any("test.csv: 2 labels" in line and "3 of 43 rows are left out" in line for line in single.said)
    data, metrics = single.made.record["data"], single.made.metrics
    assert data["test"]["left_out"] == {"labels": 2, "given": 3, "rows": 3, "shortened": 0, "of": 43}
    assert data["dev"]["left_out"]["rows"] == 1
    assert "left_out" not in data["train"]
    assert (metrics["n"], data["test"]["rows"], data["dev"]["rows"]) == (40, 40, 30)
    assert metrics["left_out"]["accuracy_of_all"] == pytest.approx(metrics["accuracy"] * 40 / 43)
    assert metrics["without_twins"]["n"] + metrics["without_twins"]["rows"] == 40
    table = pq.read_table(single.out / "predictions.parquet")
    assert table["id"].to_pylist() == [str(row) for row in range(3, 43)]  # as they are numbered in the file
    assert set(table["gold"].to_pylist()) == set(LABELS)


def test_b4_card_and_report_say_that_these_are_not_all_rows(single, tmp_path):
    card = (single.out / "model" / "README.md").read_text(encoding="utf-8")
    assert SAID in card
    assert any(SAID in note for note in report(single.out, out=tmp_path / "report.html").notes)


def test_b4_the_rows_of_the_run_are_found_again(single):
    record = RunFolder(single.out).read_run_json()
    assert changed(read_run_parts(record), record) == []


def test_b4_evaluate_has_the_same_option_and_gives_the_same_figures(single, tmp_path, capsys):
    command = ["evaluate", str(single.out / "model"), str(single.files["test"])]
    assert main(command) == 2
    assert "--unseen-labels drop" in capsys.readouterr().err
    assert main([*command, "--unseen-labels", "ignore"]) == 2
    assert "use error or drop" in capsys.readouterr().err
    out = tmp_path / "out"
    assert main([*command, "--unseen-labels", "drop", "--out", str(out), "--json"]) == 0
    shown = capsys.readouterr()
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    for name in ("n", "accuracy", "f1_macro", "ece", "left_out"):
        assert metrics[name] == single.made.metrics[name]
    assert json.loads(shown.out.splitlines()[-1])["left_out"] == metrics["left_out"]
    assert "were left out: 3 of 43" in shown.err
    classifier = sortal.load(single.out / "model")
    assert classifier.evaluate(single.files["test"], unseen_labels="drop")["left_out"] == metrics["left_out"]
    with pytest.raises(DataError, match="label 'new'"):
        classifier.evaluate(single.files["test"])


def test_b4_further_labels_stay_beside_their_rows(single, tmp_path, capsys):
    """Each row's main label is the other one and its further one is right: a shift by one row would make that the other one, too."""
    other = dict(zip(LABELS, LABELS[::-1], strict=True))
    data = [(*UNSEEN[0], ""), *((text, other[label], label) for text, label in numbered("test", 40))]
    file = write_csv(tmp_path / "also.csv", data, ("text", "label", "also"))
    command = ["evaluate", str(single.out / "model"), str(file), "--also-label", "also", "--json"]
    assert main([*command, "--unseen-labels", "drop"]) == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (shown["n"], shown["main_first"], shown["first_in_all"]) == (40, 0.0, 1.0)


def test_b4_when_every_row_is_dropped_the_error_says_so(single, tmp_path):
    other = write_csv(tmp_path / "other.csv", UNSEEN)
    with pytest.raises(DataError, match=r"other\.csv: no row is left .*'new', 'newer'"):
        baseline(single.files["train"], tmp_path / "run", test=str(other), unseen_labels="drop")
    assert main(["evaluate", str(single.out / "model"), str(other), "--unseen-labels", "drop"]) == 2


def test_b4_of_several_labels_the_known_ones_are_measured(tmp_path):
    train = write_csv(tmp_path / "train.csv", [(text, f"{label}|seen") for text, label in rows(60, LABELS)])
    lines = [("x good", "good|new"), ("x new", "new"), ("x none", ""), ("x bad", "bad|seen")]
    test = write_csv(tmp_path / "test.csv", lines)
    run = baseline(
        train, tmp_path / "run", test=str(test), label_delimiter="|", unseen_labels="drop", thresholds="none"
    )
    assert run.record["data"]["test"]["left_out"] == {
        "labels": 1, "given": 2, "rows": 1, "shortened": 1, "of": 4,
    }  # fmt: skip
    table = pq.read_table(tmp_path / "run" / "predictions.parquet")
    assert table["gold"].to_pylist() == [["good"], [], ["bad", "seen"]]
    assert 0 < run.metrics["left_out"]["f1_micro_of_all"] < run.metrics["f1_micro"]
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "1 of 4 (25.0%), and 1 more lost some of their labels" in card


@pytest.mark.parametrize("hierarchy", ["flat", "conditional"])
def test_b4_an_unseen_leaf_of_a_tree_is_dropped_unless_the_tree_is_cut_above_it(tmp_path, hierarchy):
    seen = [(text, PATHS[label]) for text, label in texts_with_labels(60)]
    train = write_csv(tmp_path / "train.csv", seen)
    test = write_csv(tmp_path / "test.csv", [("dye", "D/D06/D06Z"), ("new", "D/D06/D06Z"), *seen[:10]])
    settings = {"test": str(test), "path_separator": "/", "hierarchy": hierarchy}
    with pytest.raises(DataError, match="label 'D/D06/D06Z' does not occur"):
        baseline(train, tmp_path / "none", **settings)
    run = baseline(train, tmp_path / "leaves", unseen_labels="drop", **settings)
    assert run.metrics["left_out"]["rows"] == 2
    assert run.metrics["n"] == 10
    cut = baseline(train, tmp_path / "cut", unseen_labels="drop", level="2", **settings)
    assert cut.metrics["n"] == 12
    assert "left_out" not in cut.metrics


@pytest.mark.parametrize("how", ["paths", "map"])
def test_b4_of_several_labels_in_a_tree_the_known_parent_of_an_unseen_leaf_stays_right(tmp_path, how):
    train = several(tmp_path / "train.csv", 84)
    own, settings = (lambda name: name), {"path_separator": "/"}
    if how == "map":
        own = lambda name: name.rpartition("/")[2]  # noqa: E731
        parents = parent_map(tmp_path / "parents.csv")
        with parents.open("a", encoding="utf-8") as file:
            file.write("D06Z,D06\nA,\nA01,A\n")
        lines = train.read_text(encoding="utf-8").splitlines()
        cells = [line.rpartition(",") for line in lines[1:]]
        named = [f"{text},{'|'.join(map(own, labels.split('|')))}" for text, _, labels in cells]
        train.write_text("\n".join([lines[0], *named]) + "\n", encoding="utf-8")
        settings = {"parent_map": str(parents)}
    given = [("dye stain", "D/D06/D06Z"), ("sheet", "B/B32|A/A01"), ("nothing", "A/A01"), ("rope", "D/D07")]
    test = write_csv(
        tmp_path / "test.csv", [(text, "|".join(map(own, labels.split("|")))) for text, labels in given]
    )
    run = baseline(
        train, tmp_path / "run", test=str(test), label_delimiter="|", unseen_labels="drop", **settings
    )
    gold = pq.read_table(tmp_path / "run" / "predictions.parquet")["gold"].to_pylist()
    expected = [{"D", "D/D06"}, {"B", "B/B32"}, {"D", "D/D07"}]
    assert [set(row) for row in gold] == [set(map(own, row)) for row in expected]
    assert run.record["data"]["test"]["left_out"] == {
        "labels": 2, "given": 3, "rows": 1, "shortened": 2, "of": 4,
    }  # fmt: skip
    again = sortal.load(tmp_path / "run" / "model").evaluate(test, unseen_labels="drop", n_resamples=100)
    for name in ("left_out", "f1_micro", "h_f1", "levels"):
        assert again[name] == run.metrics[name]


def test_b4_compare_shares_the_setting_and_says_what_is_left_out(single, tmp_path, capsys):
    files, out = single.files, tmp_path / "out"
    given = {"dev": str(files["dev"]), "test": str(files["test"]), "n_resamples": 100}
    with pytest.raises(ConfigError, match=r"tfidf\.unseen_labels: the methods share their data"):
        compare(str(files["train"]), methods=("majority", "tfidf"), out=out, **given, **{"tfidf.unseen_labels": "drop"})  # fmt: skip
    command = ["compare", str(files["train"]), "--methods", "majority", "--out", str(out)]
    command += ["--dev", given["dev"], "--test", given["test"], "--set", "n_resamples=100"]
    assert main(command) == 2
    assert main([*command, "--unseen-labels", "drop"]) == 0
    assert SAID in " ".join(capsys.readouterr().err.split())
    found = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert (found["test_rows"], found["left_out"]["rows"]) == (40, 3)
    assert all(cell["status"] == "finished" for cell in found["cells"])
    assert SAID in (out / "comparison.md").read_text(encoding="utf-8")


def test_b4_compare_warns_when_too_few_rows_are_left(single, tmp_path):
    few = write_csv(tmp_path / "few.csv", [*numbered("few", 29), *UNSEEN])
    said: list[str] = []
    compare(
        str(single.files["train"]),
        methods=("majority",),
        out=tmp_path / "out",
        test=str(few),
        unseen_labels="drop",
        jobs=0,
        n_resamples=100,
        say=said.append,
    )
    assert any("29 test rows are too few" in line for line in said)


def test_b4_the_estimator_takes_them_out_of_its_dev_rows():
    texts, gold = map(list, zip(*rows(40, LABELS), strict=True))
    dev = {"X_dev": ["x good", "y bad", "z"], "y_dev": ["good", "bad", "new"]}
    with pytest.raises(InputError, match="label 'new'"):
        SortalClassifier("majority").fit(texts, gold, **dev)
    estimator = SortalClassifier("majority", settings={"unseen_labels": "drop"}).fit(texts, gold, **dev)
    assert np.array_equal(estimator.classes_, sorted(LABELS))


def test_b4_the_checks_name_the_option(single, capsys):
    assert main(["check", str(single.files["train"]), "--test", str(single.files["test"])]) in (0, 1)
    shown = capsys.readouterr()
    assert "--unseen-labels drop" in " ".join((shown.out + shown.err).split())
