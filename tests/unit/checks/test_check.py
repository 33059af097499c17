from __future__ import annotations

import json
from pathlib import Path

import pytest

import sortal
from sortal.checks import REGISTRY, get_checks
from sortal.checks.check import check
from sortal.errors import ConfigError, DataError, ModelError
from sortal.training.progress import NoProgress


def put(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def quiet(line: str) -> None:
    del line


@pytest.fixture
def data(tmp_path):
    rows = "".join(f"text number {n},{'ab'[n % 2]}\n" for n in range(12))
    return put(tmp_path / "train.csv", f"text,label\n{rows}text number 1,b\ntext number 2,b\n")


def test_it_is_a_function_of_the_package(data):
    report = sortal.check(str(data), say=quiet)
    assert {finding.check for finding in report.findings} >= {"duplicates", "conflicts"}


def test_the_most_severe_and_most_frequent_findings_come_first(data, tmp_path):
    test = put(tmp_path / "test.csv", "text,label\ntext number 3,b\nquite new,c\nmore news,a\nthe third,b\n")
    report = check(data, test=test, say=quiet)
    severities = [finding.severity for finding in report.findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert {(f.check, f.part) for f in report.findings if f.severity == "error"} == {
        ("leakage", "test"),
        ("unseen-labels", "test"),
    }


def test_json_holds_counts_and_five_examples_with_file_and_row(tmp_path):
    rows = "".join("the same text,a\n" for _ in range(9))
    path = put(tmp_path / "train.csv", f"text,label\nother,b\n{rows}")
    values = json.loads(json.dumps(check(path, say=quiet).to_json()))
    assert values["parts"] == {"train": {"source": str(path), "rows": 10, "labels": 2}}
    (finding,) = [finding for finding in values["findings"] if finding["check"] == "duplicates"]
    assert (finding["count"], finding["unit"], len(finding["examples"])) == (8, "row", 5)
    assert finding["examples"][0] == {
        "file": str(path),
        "row": 3,
        "text": "the same text",
        "note": f"the text and labels of row 2 of {path}",
    }
    assert finding["what"]
    assert finding["advice"]
    assert values["counts"]["warning"] == sum(f["severity"] == "warning" for f in values["findings"])
    assert set(values["not_checked"]) == {"leakage", "unseen-labels", "time-order", "label-noise"}
    assert set(values["seconds"]) == set(REGISTRY)
    assert values["cleaned"] is None


def test_row_numbers_are_those_of_the_file_and_long_texts_are_cut(tmp_path):
    path = put(
        tmp_path / "train.jsonl",
        "\n\n".join(json.dumps({"text": "x " * 500, "label": "a"}) for _ in range(3)),
    )
    report = check(path, only=["duplicates"], say=quiet)
    examples = report.examples(report.findings[0])
    assert [example.row for example in examples] == [2, 3]
    assert len(examples[0].text) == 121


def test_only_runs_some_checks(data):
    report = check(data, only="conflicts", say=quiet)
    assert list(report.seconds) == ["conflicts"]
    assert [finding.check for finding in report.findings] == ["conflicts"]


def test_a_folder_gives_all_its_parts(data, tmp_path):
    put(tmp_path / "test.csv", "text,label\ntext number 3,b\n")
    put(tmp_path / "validation.csv", "text,label\nnews,b\n")
    report = check(tmp_path, only=["leakage"], say=quiet)
    assert list(report.context.parts) == ["train", "dev", "test"]
    assert [finding.part for finding in report.findings] == ["test"]


def test_the_columns_of_train_are_used_for_the_other_files(tmp_path):
    train = put(tmp_path / "a.csv", "title,text,kind\nx,one,a\ny,two,b\n")
    test = put(tmp_path / "b.csv", "kind,text,title\na,one,z\n")
    report = check(train, test=test, text="text", label="kind", only=["leakage"], say=quiet)
    assert report.findings[0].count == 1


def test_dates_are_read_from_every_file(tmp_path):
    train = put(tmp_path / "a.csv", "text,label,day\nx,a,2024-01-02\ny,b,2024-03-01\n")
    test = put(tmp_path / "b.csv", "text,label,day\nz,a,2024-02-01\n")
    report = check(train, test=test, date="day", only=["time-order"], say=quiet)
    assert (report.findings[0].severity, report.findings[0].count) == ("error", 1)


def test_the_data_is_never_written_to(data):
    before = data.read_bytes()
    check(data, say=quiet)
    assert data.read_bytes() == before
    assert [path.name for path in data.parent.iterdir()] == ["train.csv"]


def test_clean_data_has_no_findings(tmp_path):
    words = [
        "apple",
        "river",
        "stone",
        "cloud",
        "window",
        "garden",
        "letter",
        "music",
        "number",
        "planet",
        "silver",
        "wonder",
    ]
    rows = "".join(
        f"{a} {b} {c},{'xy'[(i + j) % 2]}\n"
        for i, a in enumerate(words)
        for j, b in enumerate(words)
        for c in [words[(5 * i + 7 * j) % 12]]
    )
    report = check(
        put(tmp_path / "a.csv", f"text,label\n{rows}"),
        only=[n for n in REGISTRY if n not in ("label-noise", "near-duplicates")],
        say=quiet,
    )
    assert report.findings == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"only": ["leaks"]}, "unknown check 'leaks'"),
        ({"max_length": 0}, "less than one word"),
        ({"model": "smollm2-135m"}, "without max_length"),
        ({"model": "nosuch", "max_length": 9, "test": "nowhere.csv"}, "unknown model 'nosuch'"),
        ({"task": "both"}, "'both' is not auto, single or multi"),
    ],
)
def test_arguments_that_cannot_work_are_refused(data, arguments, message):
    with pytest.raises((ConfigError, ModelError), match=message):
        check(data, say=quiet, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": "lable"}, "did you mean 'label'"),
        ({"date": "day"}, "no column 'day'"),
        ({"test": "nowhere.csv"}, "does not exist"),
    ],
)
def test_data_that_cannot_be_read_is_one_sentence(data, arguments, message):
    with pytest.raises(DataError, match=message):
        check(data, say=quiet, **arguments)


def test_every_name_of_the_registry_is_a_check():
    checks = get_checks()
    assert list(checks) == list(REGISTRY)
    assert all(callable(run) for run in checks.values())


def test_progress_is_told_of_every_pass(data):
    started: list[str] = []

    class Told(NoProgress):
        def start(self, what, total, done=0):
            started.append(what)

    check(data, say=quiet, view=Told())
    assert {"comparing texts", "looking for near-duplicates", "measuring texts", "looking at scripts"} <= set(
        started
    )
