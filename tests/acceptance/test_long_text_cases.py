"""Long texts, end to end on tiny random models: windows and sections, in every method and at every boundary (S14, S15, S16)."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import sortal
from head_runs import read_json
from served import serving
from sortal.cli.main import main
from sortal.data.sections import MARK, plain_text
from sortal.errors import ConfigError, DataError, ModelError
from sortal.exporting.export import export
from sortal.exporting.subject import read_subject
from sortal.methods import get_method
from sortal.training.losses import make_loss
from sortal.training.objective import Classification
from tiny_runs import edit_json, fit, rows, write_csv

WINDOWS = {"windows": 3, "stride": 8}
FREE = {"epochs": None, "batch_size": None, "learning_rate": 2e-3, "head_learning_rate": 2e-3}
KINDS = {
    "head, mean": {"max_length": 90},
    "head, max": {"max_length": 90, "aggregation": "max"},
    "head, attention": {"max_length": 90, "aggregation": "attention"},
    "encoder, mean": {"method": "encoder", "max_length": 40},
    "encoder, max": {"method": "encoder", "max_length": 40, "aggregation": "max"},
    "encoder, attention": {"method": "encoder", "max_length": 40, "aggregation": "attention"},
    "probe, mean": {"method": "probe", "max_length": 90, "template": "summary", **FREE},
    "instruct, mean": {"method": "instruct", "max_length": 160},
    "instruct, max": {"method": "instruct", "max_length": 160, "aggregation": "max"},
}
SECTIONS = {"title": "all", "claim": 20, "body": "rest"}
SECTIONED = {"sections": SECTIONS, "max_length": 100, "windows": 2, "stride": 8, "aggregation": "max"}


def long_rows(n=40):
    """Texts of one to several windows."""
    return [(text + " and so on" * (4 * (i % 5)), label) for i, (text, label) in enumerate(rows(n))]


def section_rows(n=40):
    """Rows of three columns, of which the last two are sometimes long or missing."""
    return [
        (f"{text}.", "" if i % 7 == 3 else f"claim {i} " * (1 + i % 4), f"body {i} " * (i % 9) ** 2, label)
        for i, (text, label) in enumerate(rows(n))
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "long.csv", long_rows())


@pytest.fixture(scope="module")
def columns(tmp_path_factory):
    header = ("title", "claim", "body", "label")
    return write_csv(tmp_path_factory.mktemp("data") / "columns.csv", section_rows(), header)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_models, tiny_encoders, data, columns):
    """``run(kind)``: the result and its lines, made once; ``sections`` is one of columns with budgets, in windows too."""
    made = {}

    def of(kind):
        if kind not in made:
            settings = SECTIONED if kind == "sections" else {**KINDS[kind], **WINDOWS}
            base = tiny_encoders["sentence"] if settings.get("method") == "encoder" else tiny_models["llama"]
            out, said = tmp_path_factory.mktemp("run") / "out", []
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SORTAL_CACHE", str(out.parent / "cache"))
                file = columns if kind == "sections" else data
                made[kind] = fit(file, base, out, said=said, **settings), said
        return made[kind]

    return of


def scores(classifier, texts):
    return classifier.scorer.score(texts)


@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_scored_together_and_alike_everywhere(kind, run):
    result, said = run(kind)
    classifier, texts = result.classifier, [text for text, _ in long_rows()]
    encoded = classifier.scorer.encode(texts)
    counts = np.diff(getattr(encoded, "texts", encoded).firsts)
    assert set(counts) == {1, 2, 3}
    assert any(" in several windows of " in line and "truncated to 3 windows" in line for line in said)
    whole = scores(classifier, texts)
    assert whole.shape == (len(texts), 2)
    alone = np.concatenate([scores(classifier, [text]) for text in texts])
    np.testing.assert_allclose(alone, whole, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_allclose(scores(classifier, [texts[i] for i in order]), whole[order], atol=1e-5)
    again = sortal.load(result.folder / "model")
    np.testing.assert_allclose(scores(again, texts), whole, atol=1e-6)
    # S16: a text is one row of one part, and so are its windows.
    record = read_json(result.folder / "run.json")
    assert sum(part["rows"] for part in record["data"].values()) == len(texts)
    assert record["training"]["windows"] > record["data"]["train"]["rows"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_of_one_window_gets_the_score_of_the_plain_path(kind, run, tmp_path):
    """The same weights without windows, which cut every text to its first one."""
    result, _ = run(kind)
    folder, meta = result.folder / "model", read_json(result.folder / "model" / "sortal.json")
    plain = {key: value for key, value in meta.items() if key != "long_texts"}
    if "prompt" in plain:
        plain["prompt"] = {**plain["prompt"], "hash": _plain_hash(folder, meta, result)}
    scorer = get_method(meta["method"]).load(folder, plain, result.classifier.label_space)
    texts = [text for text, _ in long_rows()]
    encoded = result.classifier.scorer.encode(texts)
    one = np.diff(getattr(encoded, "texts", encoded).firsts) == 1
    apart = np.abs(scorer.score(texts) - scores(result.classifier, texts)).max(1)
    assert apart[one].max() < 1e-5
    assert (apart[~one] > 1e-5).any(), "what stands in further windows is read"


def _plain_hash(folder, meta, result):
    """Of the same prompt around texts without windows."""
    from dataclasses import replace

    from sortal.backbone.longtexts import PLAIN

    return replace(result.classifier.scorer.prompt, long=PLAIN).hash


@pytest.mark.parametrize("kind", ["head, mean", "head, max", "head, attention", "encoder, attention"])
def test_gradients_are_exact_however_a_step_is_cut(kind, run):
    result, _ = run(kind)
    scorer, space = result.classifier.scorer, result.classifier.label_space
    texts = scorer.encode([text for text, _ in long_rows(20)])
    gold = np.arange(20) % 2
    loss = make_loss(_config(result), space.task, space.names, gold)
    model = scorer.model
    score = model.score if kind.startswith("encoder") else model.trained_score
    trained = [*model.windows.parameters(), *score.parameters()]
    for parameter in trained:
        parameter.requires_grad_(True)
    objective = Classification(model, texts, torch.from_numpy(gold), loss, torch.device("cpu"))

    def gradients(parts):
        for parameter in trained:
            parameter.grad = None
        found = [objective.losses(np.array(part)) for part in parts]
        total = torch.cat(found).sum()
        total.backward()
        return [parameter.grad.clone() for parameter in trained], total.item()

    whole, total = gradients([range(20)])
    assert any(gradient.abs().max() > 1e-4 for gradient in whole)
    for parts in ([[i] for i in range(20)], [range(7), range(7, 20)], [range(19, -1, -1)]):
        cut, sum_ = gradients(parts)
        assert sum_ == pytest.approx(total, abs=1e-4)
        for one, other in zip(whole, cut, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def _config(result):
    from sortal.config import RunConfig, build_config

    given = read_json(result.folder / "run.json")["config"]
    return build_config({key: value for key, value in given.items() if key in RunConfig.model_fields})


def test_attention_is_learned_saved_and_checked(run, tmp_path):
    result, _ = run("head, attention")
    learned = result.classifier.scorer.model.windows.score.weight
    assert learned.abs().max() > 0
    path = result.folder / "model" / "windows.safetensors"
    assert path.name in read_json(result.folder / "model" / "sortal.json")["files"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": 4}, "stride has no effect without windows above 1"),
        (
            {"method": "probe", "windows": 2, "aggregation": "max"},
            "aggregation 'max' is not for probe: use mean",
        ),
        (
            {"method": "instruct", "windows": 2, "aggregation": "attention"},
            "is not for instruct: use mean or max",
        ),
        ({"method": "tfidf", "windows": 2}, "windows is for method"),
        ({"windows": 2, "stride": 64, "max_length": 64}, "windows would never move on"),
        ({"sections": {"a": "all"}, "text_template": "{a}!"}, "leave out text_template"),
        ({"sections": {"a": "all"}, "text": ["b"]}, "text and sections name different columns"),
        ({"sections": {"a": "most"}}, "sections"),
        ({"sections": {"a": 0}}, "sections"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    from sortal.config import build_config

    with pytest.raises(ConfigError, match=message):
        build_config({"data": "d.csv", **settings})


def test_attention_over_an_encoders_own_head_is_refused(data, tiny_encoders, tmp_path):
    settings = {"method": "encoder", "max_length": 40, "aggregation": "attention", **WINDOWS}
    with pytest.raises(ConfigError, match="use pooling mean, or aggregation mean or max"):
        fit(data, tiny_encoders["bert"], tmp_path / "run", **settings)
    own = fit(data, tiny_encoders["bert"], tmp_path / "run", **{**settings, "aggregation": "max"})
    assert own.record["training"]["pooling"] == "own"
    assert own.record["training"]["texts_in_windows"] > 0


# sections


def test_sections_are_cut_each_for_itself_counted_and_saved(run):
    result, said = run("sections")
    scorer = result.classifier.scorer
    texts = [MARK.join(row[:3]) for row in section_rows()]
    for reading in scorer.encoder.read(texts):
        (title, titles), (claim, claims), (body, bodies) = reading.sections
        assert len(title) == titles
        assert len(claim) == min(claims, 20)
        room = 2 * scorer.encoder.room - 8
        assert len(body) == min(bodies, room - len(title) - len(claim))
    training = result.record["training"]
    assert training["truncated_sections"]["title"] == 0
    assert training["truncated_sections"]["claim"] > 0
    assert training["truncated_sections"]["body"] > 0
    counted = ", ".join(f"{name} of {n:,} texts" for name, n in training["truncated_sections"].items())
    assert any(line.endswith(f"; cut sections: {counted}") for line in said)
    meta = read_json(result.folder / "model" / "sortal.json")
    assert meta["long_texts"]["sections"] == [list(item) for item in SECTIONS.items()]


def test_sections_are_read_alike_in_files_dicts_servers_and_evaluation(run, columns, tmp_path):
    result, _ = run("sections")
    folder, classifier = result.folder / "model", result.classifier
    fields = [dict(zip(SECTIONS, row[:3], strict=True)) for row in section_rows()]
    expected = classifier.predict_proba([MARK.join(row[:3]) for row in section_rows()])
    np.testing.assert_array_equal(classifier.predict_proba(fields), expected)
    assert main(["predict", str(folder), str(columns), "--out", str(tmp_path / "out.jsonl")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    names = classifier.classes_
    predicted = np.array([[line["probabilities"][name] for name in names] for line in lines])
    np.testing.assert_allclose(predicted, expected, atol=1e-6)
    gold = [row[3] for row in section_rows()]
    right = np.mean([names[i] == label for i, label in zip(expected.argmax(1), gold, strict=True)])
    assert classifier.evaluate(columns, n_resamples=100)["accuracy"] == pytest.approx(right)
    with serving(folder) as served:
        client = served.client
        reply = client.post("/classify", json={"input": fields}).json()["data"]
        np.testing.assert_allclose([each["probs"] for each in reply], expected, atol=1e-6)
        one = client.post("/predict", json={"inputs": {**fields[0], "body": None}}).json()
        del fields[0]["body"]
        assert one == client.post("/predict", json={"inputs": fields[0]}).json()
        assert isinstance(one[0], dict)
        refused = client.post("/predict", json={"inputs": {"abstract": "x"}})
        assert refused.status_code == 422
        assert "'title', 'claim', 'body'" in refused.json()["error"]
        assert client.post("/predict", json={"inputs": [{"title": 3}]}).status_code == 422
        explained = client.post("/explain", json={"inputs": fields[1]}).json()
        assert explained["scores"][0] == pytest.approx(expected[1].max(), abs=1e-6)
        assert client.get("/info").json()["models"][0]["long_texts"]["sections"][1] == ["claim", 20]
    with pytest.raises(DataError, match="an input has a field that is no text column"):
        classifier.predict([{"abstract": "x"}])


def test_a_mark_inside_a_cell_is_no_border(run, tmp_path):
    classifier = run("sections")[0].classifier
    cells = {"title": f"a{MARK}b", "claim": "c", "body": "d"}
    data = write_csv(tmp_path / "d.csv", [tuple(cells.values())], tuple(cells))
    read = classifier.read(data, need_labels=False, say=lambda line: None).texts
    assert read == [MARK.join(("a b", "c", "d"))]
    np.testing.assert_array_equal(classifier.predict_proba(read), classifier.predict_proba([cells]))


def test_an_edited_budget_is_refused(run, tmp_path):
    import shutil

    shutil.copytree(run("sections")[0].folder / "model", tmp_path / "model")
    meta = read_json(tmp_path / "model" / "sortal.json")
    changed = {**meta["long_texts"], "sections": [["title", 5], ["claim", 20], ["body", "rest"]]}
    edit_json(tmp_path / "model" / "sortal.json", long_texts=changed)
    with pytest.raises(ModelError, match=r"long_texts is not what it was saved as .*match its hash"):
        sortal.load(tmp_path / "model")


def test_the_estimator_reads_sections_and_windows(tiny, tmp_path):
    pandas = pytest.importorskip("pandas")
    from sortal import SortalClassifier

    table = pandas.DataFrame(section_rows(24), columns=[*SECTIONS, "label"])
    settings = {"sections": SECTIONS, "windows": 2, "stride": 4, "dtype": "float32", "threads": 1}
    model = SortalClassifier(
        model=str(tiny),
        blend="none",
        epochs=1,
        batch_size=8,
        max_length=90,
        random_state=0,
        settings=settings,
    )
    model.fit(table[list(SECTIONS)], table["label"])
    long = model.classifier_.scorer.encoder.long
    assert (long.names, long.windows) == (tuple(SECTIONS), 2)
    texts = [MARK.join(row[:3]) for row in section_rows(24)]
    expected = model.classifier_.predict_proba(texts)
    np.testing.assert_allclose(model.predict_proba(table[list(SECTIONS)]), expected, atol=1e-6)


def test_tfidf_reads_all_of_every_section(columns, tmp_path):
    from sortal.config import build_config
    from sortal.run import run as fine_tune

    values = {"data": str(columns), "method": "tfidf", "sections": SECTIONS, "out": str(tmp_path / "run")}
    classifier = fine_tune(build_config(values), say=lambda line: None).classifier
    texts = [MARK.join(row[:3]) for row in section_rows()]
    np.testing.assert_allclose(
        classifier.predict_proba(texts),
        classifier.predict_proba([plain_text(text) for text in texts]),
        atol=1e-6,
    )


# S15


@pytest.mark.parametrize("method", ["head", "instruct"])
def test_s15_a_dry_run_shows_sections_and_windows_as_they_are_read(method, columns, tiny, tmp_path, capsys):
    length = "100" if method == "instruct" else "70"
    sections = [f"{name}={budget}" for name, budget in SECTIONS.items()]
    arguments = ["train", str(columns), "--model", str(tiny), "--method", method, "--max-length", length]
    arguments += [word for each in sections for word in ("--section", each)]
    arguments += ["--windows", "2", "--stride", "4", "--dry-run", "--json"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out.splitlines()[-1])
    assert all("section  title: " in printed.err for _ in summary["rows"])
    assert f"{summary['windows']:,} windows, " in printed.err
    assert " truncated to 2 windows (head); cut sections: title of 0 texts, claim of " in printed.err
    assert summary["truncated_sections"]["claim"] > 0
    result = fit(
        columns, tiny, tmp_path / "run", method=method, sections=SECTIONS, windows=2, stride=4,
        max_length=int(length), label="label", epochs=0,
    )  # fmt: skip
    scorer = result.classifier.scorer
    assert any("windows" in row for row in summary["rows"])
    by_text = {plain_text(MARK.join(row[:3])): MARK.join(row[:3]) for row in section_rows()}
    for row in summary["rows"]:
        encoded = scorer.encode([by_text[row["text"]]])
        shown = [row["ids"], *row.get("windows", [])]
        windows = [encoded.unrolled[i].tolist() for i in range(len(encoded.unrolled))]
        if method == "instruct":  # before each window the prompt, after it the answer
            shared = encoded.shared.tolist()
            windows = [shared + own for own in windows]
            shown = [ids[: len(own)] for ids, own in zip(shown, windows, strict=True)]
        assert shown == windows


# exports


def test_exports_say_what_they_cannot_do(run, tmp_path):
    with pytest.raises(ModelError, match="an attention that it learned, and hf has no place for it"):
        export(run("head, attention")[0].folder / "model", to="hf", out=tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    made = export(run("sections")[0].folder / "model", to="hf", out=tmp_path / "sections", rows=20)
    assert made.agreement["largest"] < 1e-3
    assert made.agreement["rows"] > 5
    words = (tmp_path / "sections" / "README.md").read_text()
    assert "up to 2 windows that share 8 tokens and takes the max of their scores" in words
    assert "cuts each section of a text for itself (title all, claim 20, body rest)" in words
    subject = read_subject(run("sections")[0].folder / "model", "hf", None, int8=False, without_blend=False)
    assert read_json(tmp_path / "sections" / "export.json")["long_texts"] == subject.long
