"""Methods tfidf and majority through the command line: train, evaluate, predict, load, resume, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil

import pyarrow.parquet as pq
import pytest

import sortal
from baseline_runs import baseline, topics
from sortal.cli.main import main
from sortal.errors import ModelError
from sortal.methods import tfidf
from tiny_runs import HARD_TEXTS, edit_json, rows, write_csv

METHODS = ("tfidf", "majority")
LABELS = ("good", "bad", "odd")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    made = rows(140, LABELS)
    parts = {"train": made[:90], "dev": made[90:110], "test": made[110:]}
    return {name: write_csv(folder / f"{name}.csv", part) for name, part in parts.items()}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "topics.csv", topics(100))


def words(files, out, method="tfidf", *more):
    fixed = ["train", files["train"], "--dev", files["dev"], "--test", files["test"], "--method", method]
    return [str(word) for word in (*fixed, "--out", out, *more, "--set", "n_resamples=100")]


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    """The folder of a finished run per method."""
    folder = tmp_path_factory.mktemp("runs")
    for method in METHODS:
        assert main(words(files, folder / method, method)) == 0
    return {method: folder / method for method in METHODS}


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def content(run):
    """Everything that the result of a run is."""
    names = [p.name for p in sorted((run / "model").iterdir()) if p.name != "sortal.json"]
    files = {name: (run / "model" / name).read_bytes() for name in names}
    return files, (run / "metrics.json").read_text(), pq.read_table(run / "predictions.parquet")


# the run folder


@pytest.mark.parametrize("method", METHODS)
def test_the_run_folder_is_that_of_every_method(method, trained):
    run = trained[method]
    assert {p.name for p in run.iterdir()} == {
        "twins.csv",  # the test rows are made alike
        "run.json",
        "metrics.json",
        "predictions.parquet",
        "dev_predictions.parquet",
        "model",
        "logs",
    }
    record, meta = read_json(run / "run.json"), read_json(run / "model" / "sortal.json")
    assert record["status"] == "finished"
    assert record["base_model"] is meta["base_model"] is record["identity"]["base_model"] is None
    assert record["config"]["model"] is None
    assert (meta["method"], meta["labels"]) == (method, ["bad", "good", "odd"])
    assert "quantization" not in meta
    assert record["training"]["train_seconds"] >= 0
    assert record["training"]["peak_memory_bytes"] > 0
    assert "without a pretrained model" in (run / "model" / "README.md").read_text()
    assert not [p for p in run.rglob("*") if p.suffix in (".pkl", ".bin", ".pt", ".joblib", ".npy")]


def test_tfidf_learns_and_majority_is_the_share_of_the_most_frequent_label(trained, files):
    assert read_json(trained["tfidf"] / "metrics.json")["accuracy"] > 0.95
    with files["test"].open() as file:
        gold = [row["label"] for row in csv.DictReader(file)]
    predicted = pq.read_table(trained["majority"] / "predictions.parquet")["predicted"].to_pylist()
    assert len(set(predicted)) == 1
    assert read_json(trained["majority"] / "metrics.json")["accuracy"] == pytest.approx(
        gold.count(predicted[0]) / len(gold)
    )


def test_run_json_has_every_candidate_and_the_chosen_one_is_the_best_on_dev(trained):
    training = read_json(trained["tfidf"] / "run.json")["training"]
    tried = training["candidates"]
    assert [(c["model"], c["c"]) for c in tried] == [(c.model, c.c) for c in tfidf.GRID]
    best = max(tried, key=lambda c: c["metric"])
    assert (training["model"], training["c"]) == (best["model"], best["c"])
    assert best["metric"] == best["f1_macro"]
    assert training["features"] == training["word_features"] + training["character_features"] > 100


def test_the_metric_that_chooses_is_the_runs_own(files, tmp_path):
    assert main([*words(files, tmp_path / "run"), "metric_for_best_model=loss"]) == 0
    training = read_json(tmp_path / "run" / "run.json")["training"]
    best = min(training["candidates"], key=lambda c: c["loss"])
    assert (training["model"], training["c"]) == (best["model"], best["c"])


def test_dev_rows_choose_but_are_not_trained_on(trained):
    terms = read_json(trained["tfidf"] / "model" / "tfidf.json")["words"]
    assert "89" in terms, "the number of the last training row"
    assert "95" not in terms, "the number of a dev row"


# evaluate, predict, load


@pytest.mark.parametrize("method", METHODS)
def test_evaluate_repeats_the_figures_of_the_run(method, trained, files, capsys):
    argv = ["evaluate", trained[method] / "model", files["test"], "--json"]
    assert main([str(word) for word in argv]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    expected = read_json(trained[method] / "metrics.json")
    for key in ("n", "accuracy", "f1_macro", "ece", "log_loss"):
        assert found[key] == expected[key]


@pytest.mark.parametrize("method", METHODS)
def test_predict_repeats_the_predictions_of_the_run(method, trained, files, tmp_path):
    out = tmp_path / "out.parquet"
    argv = ["predict", trained[method] / "model", files["test"], "--out", out]
    assert main([str(word) for word in argv]) == 0
    found, expected = pq.read_table(out), pq.read_table(trained[method] / "predictions.parquet")
    assert found["predicted"].to_pylist() == expected["predicted"].to_pylist()
    for name in [f"p:{label}" for label in LABELS]:
        assert found[name].to_pylist() == expected[name].to_pylist()


@pytest.mark.parametrize("method", METHODS)
def test_hard_texts_are_answered_alone_as_together(method, trained):
    classifier = sortal.load(trained[method] / "model")
    together = classifier.predict_proba(HARD_TEXTS)
    alone = [classifier.predict_proba([text])[0] for text in HARD_TEXTS]
    assert (together == alone).all()
    assert together.sum(axis=1) == pytest.approx(1)
    assert set(classifier.predict(HARD_TEXTS)) <= set(LABELS)


def test_the_python_api_trains_it(files, tmp_path):
    classifier = sortal.train(
        files["train"],
        dev=str(files["dev"]),
        test=str(files["test"]),
        method="tfidf",
        out=str(tmp_path / "run"),
    )
    again = sortal.load(tmp_path / "run" / "model")
    texts = ["fine and nice", "strange thing", ""]
    assert (again.scorer.score(texts) == classifier.scorer.score(texts)).all()
    assert classifier.predict(texts)[:2] == ["good", "odd"]


# multi-label


@pytest.mark.parametrize("method", METHODS)
def test_multi_label_with_thresholds_tuned_on_dev(method, many, tmp_path):
    argv = [
        "train",
        many,
        "--label-delimiter",
        "|",
        "--method",
        method,
        "--out",
        tmp_path / "run",
        "--set",
        "n_resamples=100",
    ]
    assert main([str(word) for word in argv]) == 0
    meta, metrics = (read_json(tmp_path / "run" / name) for name in ("model/sortal.json", "metrics.json"))
    assert (meta["task"], meta["labels"]) == ("multi", ["m", "p"])
    assert len(meta["decision"]["thresholds"]) == 2
    classifier = sortal.load(tmp_path / "run" / "model")
    if method == "tfidf":
        assert metrics["f1_micro"] > 0.95
        assert classifier.predict(["late parcel", "money back", "late parcel money"]) == [
            ("p",),
            ("m",),
            ("m", "p"),
        ]
    else:
        assert len(set(classifier.predict(["late parcel", "money back", ""]))) == 1


def test_a_label_of_every_row_and_labels_of_one_row(tmp_path):
    made = [(f"fine text {i}", "all|one" if i == 0 else "all|some" if i % 3 else "all") for i in range(80)]
    said = []
    result = baseline(write_csv(tmp_path / "d.csv", made), tmp_path / "run", label_delimiter="|", said=said)
    scores = result.classifier.scorer.score(["fine text", ""])
    assert result.classifier.classes_ == ("all", "one", "some")
    assert (scores[:, 0] > 0).all()
    assert (scores[:, 1] < 0).all()


# rare labels, empty texts, one class


@pytest.mark.parametrize("method", METHODS)
def test_labels_with_a_single_training_row(method, tmp_path):
    made = [*rows(60), *((f"word{i} alone", f"rare {i}") for i in range(5))]
    result = baseline(write_csv(tmp_path / "d.csv", made), tmp_path / "run", method)
    assert len(result.classifier.classes_) == 7
    if method == "tfidf":
        assert result.classifier.predict(["word3 alone"]) == ["rare 3"]


@pytest.mark.parametrize("method", METHODS)
def test_a_label_that_the_sample_lost_is_known_and_improbable(method, tmp_path):
    made = rows(120, [f"label {i}" for i in range(40)])
    result = baseline(write_csv(tmp_path / "d.csv", made), tmp_path / "run", method, max_train_rows=20)
    classifier = result.classifier
    assert len(classifier.classes_) == 40
    probabilities = classifier.predict_proba([text for text, _ in made])
    assert (probabilities > 0).all()
    if method == "tfidf":
        lost = [column for column, bias in enumerate(classifier.scorer.linear.bias) if bias < -3]
        assert len(lost) == 20
        assert probabilities[:, lost].max() < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_a_label_only_in_test_is_refused_by_name(method, files, tmp_path, capsys):
    test = write_csv(tmp_path / "test.csv", [("fine", "good"), ("what", "goood")])
    argv = words(files | {"test": test}, tmp_path / "run", method)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert "row 2: label 'goood'" in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_empty_texts_and_scripts_train_and_are_answered(tmp_path):
    made = [(f"猫が座った {i}", "ja") for i in range(20)] + [(f"แมวนั่ง {i}", "th") for i in range(20)]
    made += [("!?" if i % 2 else "—", "none") for i in range(20)]
    result = baseline(write_csv(tmp_path / "d.csv", made), tmp_path / "run")
    assert result.classifier.predict(["猫が座った", "แมวนั่ง", "!?"]) == ["ja", "th", "none"]
    assert result.classifier.predict([""])[0] in ("ja", "th", "none")


# determinism and resuming


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_bits(method, files, trained, tmp_path):
    assert main(words(files, tmp_path / "again", method)) == 0
    assert content(tmp_path / "again") == content(trained[method])


@pytest.mark.parametrize("method", METHODS)
def test_a_finished_run_is_loaded_and_not_made_again(method, files, trained, capsys):
    before = (trained[method] / "run.json").read_text()
    assert main(words(files, trained[method], method)) == 2
    assert "holds a finished run" in capsys.readouterr().err
    assert main(words(files, trained[method], method, "--resume")) == 0
    assert "finished already; nothing to do" in capsys.readouterr().err
    assert (trained[method] / "run.json").read_text() == before


def test_a_killed_run_starts_again_with_resume(files, trained, tmp_path, monkeypatch, capsys):
    def killed(*arguments, **more):
        raise SystemExit(137)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        # As after SIGKILL: nobody tidies up.
        patch.setattr("sortal.run._leave", lambda *arguments: None)
        patch.setattr(tfidf, "fit_linear", killed)
        with pytest.raises(SystemExit):
            baseline(files["train"], out, dev=str(files["dev"]), test=str(files["test"]))
    assert read_json(out / "run.json")["status"] == "running"
    assert main(words(files, out)) == 2
    assert "continue it with --resume" in capsys.readouterr().err
    assert main(words(files, out, "tfidf", "--resume")) == 0
    assert "starting from the beginning" in capsys.readouterr().err
    assert content(out) == content(trained["tfidf"])


def test_a_stopped_run_leaves_nothing(files, tmp_path, monkeypatch):
    def stopped(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(tfidf, "fit_linear", stopped)
    assert main(words(files, tmp_path / "run")) == 130
    assert not (tmp_path / "run").exists()


# refusals


@pytest.mark.parametrize("method", METHODS)
def test_a_model_given_with_a_baseline_is_refused_before_the_data_is_read(method, tmp_path, capsys):
    argv = ["train", str(tmp_path / "none.csv"), "--method", method, "--model", "smollm2-135m"]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert f"model is for methods that tune a pretrained model, and {method} has none" in error
    assert "none.csv" not in error


@pytest.mark.parametrize(
    ("method", "name"),
    [("tfidf", "tfidf.json"), ("tfidf", "tfidf.safetensors"), ("majority", "majority.json")],
)
def test_a_damaged_file_is_refused_in_one_sentence(method, name, trained, files, tmp_path, capsys):
    model = shutil.copytree(trained[method] / "model", tmp_path / "model")
    data = bytearray((model / name).read_bytes())
    data[len(data) // 2] ^= 1
    (model / name).write_bytes(bytes(data))
    assert main(["predict", str(model), str(files["test"])]) == 2
    error = capsys.readouterr().err
    assert f"{name} is not the file this model was saved with" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("method", METHODS)
def test_labels_shuffled_in_sortal_json_are_refused(method, trained, tmp_path):
    model = shutil.copytree(trained[method] / "model", tmp_path / "model")
    edit_json(model / "sortal.json", labels=["good", "bad", "odd"])
    with pytest.raises(ModelError, match="disagree about the labels"):
        sortal.load(model)


# dry run and help


def test_the_dry_run_shows_the_features_that_serving_reads(files, trained, capsys, tmp_path):
    argv = words(files, tmp_path / "none", "tfidf", "--dry-run", "--json")
    assert main(argv) == 0
    out, said = capsys.readouterr()
    shown = json.loads(out.strip().splitlines()[-1])
    features = sortal.load(trained["tfidf"] / "model").scorer.features
    assert len(shown["rows"]) == 3
    for row in shown["rows"]:
        assert row["features"] == features.named(row["text"])
        assert row["features"]["words"]
    assert shown["features"] == len(features)
    assert "steps" not in shown
    assert "Nothing was trained." in said
    assert not (tmp_path / "none").exists()


def test_the_dry_run_of_majority_reads_no_text(files, capsys, tmp_path):
    assert main(words(files, tmp_path / "none", "majority", "--dry-run", "--json")) == 0
    out, said = capsys.readouterr()
    assert [row["features"] for row in json.loads(out.strip().splitlines()[-1])["rows"]] == [{}] * 3
    assert "only the labels are read" in said


def test_help_names_every_method(capsys):
    assert main(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name in ("head", "instruct", *METHODS):
        assert name in shown
