"""What methods are called in ``sortal compare``: settings of one, blends, forms and sums, and names that stand for nothing."""

from __future__ import annotations

import shutil

import pytest

import sortal
from compared_runs import compared, figures, noisy
from sortal.comparison.cells import plan
from sortal.comparison.compare import compare
from sortal.errors import ConfigError, RunFolderError
from sortal.training.runfolder import RunFolder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return noisy(tmp_path_factory.mktemp("compare") / "data.csv")


def test_settings_go_to_the_methods_that_have_them(data, tmp_path):
    settings = {"data": str(data), "epochs": 3, "shots": 1, "head.epochs": 2, "answer": "auto"}
    settings["max_minutes"] = 2.5
    cells = {cell.method: cell.config for cell in plan(settings, ["head", "instruct", "tfidf"], 1, tmp_path)}
    assert [config.max_minutes for config in cells.values()] == [2.5, 2.5, None]
    assert (cells["head"].epochs, cells["instruct"].epochs) == (2, 3)
    assert (cells["head"].shots, cells["instruct"].shots) == (0, 1)
    assert cells["head"].split_seed == cells["instruct"].split_seed == 0


def test_a_blend_is_a_method_of_its_own(data, tiny, tmp_path):
    found = compared(
        data, tiny, tmp_path / "out", ("tfidf", "head", "head+tfidf"), seeds=1, **{"head+tfidf.epochs": 1}
    )
    runs = [RunFolder(cell["folder"]).read_run_json() for cell in found.cells]
    assert [cell["name"] for cell in found.cells] == ["tfidf-0", "head-0", "head+tfidf-0"]
    assert [run["config"]["method"] for run in runs] == ["tfidf", "head", "head"]
    assert ["blend" in run["training"] for run in runs] == [False, False, True]
    assert [run["config"]["epochs"] for run in runs[1:]] == [2, 1], "its settings are its own"
    assert {(pair.a, pair.b) for pair in found.pairs} == {
        ("tfidf", "head"), ("tfidf", "head+tfidf"), ("head", "head+tfidf")
    }  # fmt: skip
    sortal.report(tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "head+tfidf" in page
    assert "head+tfidf.blend" not in page, "the name says it"
    assert "head+tfidf.epochs: 1" in page


def test_a_blend_takes_the_model_that_the_comparison_has_tuned(data, tiny, tmp_path):
    """Asked for first, it waits for it; with settings of its own it is trained by itself (above)."""
    out = tmp_path / "out"
    found = compared(data, tiny, out, ("head+tfidf", "head"), seeds=1, jobs=2)
    assert [cell["status"] for cell in found.cells] == ["finished", "finished"]
    words = (out / "logs" / "head+tfidf-0.log").read_text(encoding="utf-8")
    assert f"the tuned model is that of {out / 'runs' / 'head-0'}" in words
    assert "epoch 1" not in words


def test_a_sum_of_methods_is_the_ensemble_of_their_runs(data, tiny, tmp_path):
    """Asked for first, it waits for its members; of each seed it takes the runs of that seed, and the one run of what has no seed."""
    out = tmp_path / "out"
    found = compared(data, tiny, out, ("head+tfidf+majority", "head", "tfidf", "majority"), jobs=2)
    assert [cell["name"] for cell in found.cells if "+" in cell["name"]] == [
        "head+tfidf+majority-0",
        "head+tfidf+majority-1",
    ]
    assert {cell["status"] for cell in found.cells} == {"finished"}
    for seed in (0, 1):
        training = RunFolder(out / "runs" / f"head+tfidf+majority-{seed}").read_run_json()["training"]
        runs = [member["folder"] for member in training["members"]]
        assert runs == [str(out / "runs" / name) for name in (f"head-{seed}", "tfidf-0", "majority-0")]
    assert len(found.pairs) == 6
    for weights in out.glob("runs/*/model/**/*.safetensors"):
        weights.unlink()  # run folders brought from another machine do without
    again = compared(data, tiny, out, ("head+tfidf+majority", "head", "tfidf", "majority"), jobs=0)
    assert figures(again.to_json()) == figures(found.to_json())
    sortal.report(out)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "head+tfidf+majority" in page
    assert "members:" not in page, "the name says it"
    shutil.rmtree(out / "runs" / "tfidf-0")
    with pytest.raises(RunFolderError, match=r"adds another run than the one in .*tfidf-0"):
        compared(data, tiny, out, ("head+tfidf+majority", "head", "tfidf", "majority"), jobs=0)


def test_a_form_of_a_method_has_settings_of_its_own(data, tiny, tmp_path):
    methods = ("head", "head@mean", "head@mean+tfidf")
    found = compared(
        data, tiny, tmp_path / "out", methods, seeds=1, **{"head@mean.pooling": "mean", "head@mean.epochs": 1}
    )
    runs = [RunFolder(cell["folder"]).read_run_json() for cell in found.cells]
    assert [cell["name"] for cell in found.cells] == ["head-0", "head@mean-0", "head@mean+tfidf-0"]
    assert [run["config"]["pooling"] for run in runs] == ["auto", "mean", "mean"]
    assert [run["config"]["epochs"] for run in runs] == [2, 1, 1]
    assert "the tuned model is that of" in (tmp_path / "out/logs/head@mean+tfidf-0.log").read_text()
    assert len(found.pairs) == 3
    sortal.report(tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "head@mean.pooling: mean" in page
    assert "--methods head,head@mean,head@mean+tfidf" in page


@pytest.mark.parametrize(
    ("methods", "settings", "words"),
    [
        (["head", "head@mean"], {}, "head@mean: nothing tells it from head"),
        (["head@mean+tfidf"], {"head@other.epochs": 1}, "head@mean[+]tfidf: nothing tells it from head"),
        (["head@mean"], {"head.epochs": 1, "head@mean.epochs": 1}, "'head' is not compared"),
        (["head@mean"], {"head@mean.epoch": 1}, "did you mean 'epochs'"),
        (["head@../x"], {"head@../x.epochs": 1}, "unknown method 'head@../x'"),
        (["he@xad"], {"he@xad.epochs": 1}, "unknown method 'he@xad'"),
        (["heads"], {}, "unknown method 'heads'"),
        (["head", "head"], {}, "head names something twice"),
        ([], {}, "no methods are named"),
        (["head"], {"shots": 1}, "shots applies to none of head"),
        (["head"], {"instruct.shots": 1}, "'instruct' is not compared"),
        (["head"], {"head.epoch": 1}, "did you mean 'epochs'"),
        (["head"], {"head.dev_size": 0.2}, "the methods share their data"),
        (["head"], {"epoch": 1}, "did you mean 'epochs'"),
        (["tfidf+tfidf"], {}, "unknown method 'tfidf[+]tfidf'"),
        (["head", "head+probe"], {}, "'probe' is not compared"),
        (["head", "head+head"], {}, "names something twice"),
        (["head", "tfidf", "head+tfidf+head@x"], {}, "'head@x' is not compared"),
        (["ensemble@x"], {"ensemble@x.thresholds": "none"}, "unknown method 'ensemble@x'"),
        (["head", "encoder", "head+encoder"], {"members": "a,b"}, "an ensemble's name says what it adds"),
        (["ensemble"], {}, "unknown method 'ensemble'"),
        (["head", "tfidf", "head+tfidf+tfidf"], {}, "names something twice"),
        (["head"], {"blend": "tfidf"}, "compare METHOD and METHOD[+]tfidf"),
        (["head"], {"head.blend": "tfidf"}, "compare METHOD and METHOD[+]tfidf"),
    ],
)
def test_a_matrix_that_cannot_work_is_refused_before_anything_runs(methods, settings, words, data, tmp_path):
    with pytest.raises(ConfigError, match=words):
        compare(str(data), methods=methods, out=tmp_path / "out", say=lambda line: None, **settings)
    assert not (tmp_path / "out").exists()
