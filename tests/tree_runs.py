"""Rows with labels in a small tree, written in each of the ways that say so, and short runs on them."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

from baseline_runs import baseline
from tiny_runs import fit, write_csv

# label → words of its rows. "D06" is a label of its own and the parent of two others; "D" and "B" occur as ancestors only.
WORDS = {
    "D06Q": "dye stain colour",
    "D06C": "press iron smooth",
    "D06": "cloth fabric linen",
    "D07": "rope cable cord",
    "B32": "layer sheet film",
}
PATHS = {
    "D06Q": "D/D06/D06Q",
    "D06C": "D/D06/D06C",
    "D06": "D/D06",
    "D07": "D/D07",
    "B32": "B/B32",
}
PARENTS = {"D": "", "B": "", "D06": "D", "D07": "D", "B32": "B", "D06Q": "D06", "D06C": "D06"}
LEVELS = ("section", "class", "subclass")
TEXTS = ["dye stain", "rope and cable", "", "layer of cloth", "iron", "nothing of the kind"]
SEVERAL = {"path_separator": "/", "label_delimiter": "|"}  # settings for `several`


def texts_with_labels(n: int = 60) -> list[tuple[str, str]]:
    """(text, label), labels in turn; no two texts are alike."""
    labels = list(WORDS)
    made = []
    for i in range(n):
        label = labels[i % len(labels)]
        words = WORDS[label].split()
        made.append((f"{words[i % 3]} {words[(i + 1) % 3]} {i}", label))
    return made


def as_paths(path: Path, n: int = 60) -> Path:
    """One column with paths."""
    return write_csv(path, [(text, PATHS[label]) for text, label in texts_with_labels(n)])


def as_columns(path: Path, n: int = 60) -> Path:
    """A column per level; the cells below a row's label are empty."""
    rows = []
    for text, label in texts_with_labels(n):
        names = PATHS[label].split("/")
        rows.append((text, *names, *[""] * (3 - len(names))))
    return write_csv(path, rows, ("text", *LEVELS))


def as_names(path: Path, n: int = 60) -> Path:
    """Plain names, for a parent map."""
    return write_csv(path, texts_with_labels(n))


def several(path: Path, n: int = 60) -> Path:
    """Rows of two texts with both labels as paths; every seventh row has none."""
    rows = texts_with_labels(n)
    made = []
    for i, (text, label) in enumerate(rows):
        other, more = rows[(i * 7 + 3) % n]
        made.append(
            ("hello 1" + str(i), "") if i % 7 == 6 else (f"{text} {other}", f"{PATHS[label]}|{PATHS[more]}")
        )
    return write_csv(path, made)


def parent_map(path: Path) -> Path:
    """The CSV that says which label lies under which."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([("label", "parent"), *PARENTS.items()])
    return path


def every_way(folder: Path) -> SimpleNamespace:
    """The same rows written in every way, rows with several labels, and the parent map."""
    return SimpleNamespace(
        paths=as_paths(folder / "paths.csv"),
        columns=as_columns(folder / "columns.csv"),
        names=as_names(folder / "names.csv"),
        several=several(folder / "several.csv", 84),
        map=parent_map(folder / "parents.csv"),
    )


def runs_on_paths(tmp_path_factory, files, decoder, encoder):
    """``run(method, task, mode)``: a run on paths, made once."""
    made: dict[tuple, SimpleNamespace] = {}

    def run(method, task, mode):
        key = method, task, mode
        if key not in made:
            data, tree = (
                (files.paths, {"path_separator": "/"}) if task == "single" else (files.several, SEVERAL)
            )
            out = tmp_path_factory.mktemp("run") / "out"
            settings = {"hierarchy": mode, **tree}
            if method == "tfidf":
                result = baseline(data, out, **settings)
            elif method == "head":
                result = fit(data, decoder, out, **settings)
            else:
                result = fit(data, encoder, out, method="encoder", **settings)
            made[key] = SimpleNamespace(result=result, classifier=result.classifier, folder=out)
        return made[key]

    return run


def assert_consistent(classifier, texts):
    """No node is likelier than its parent, and decided nodes come with their ancestors."""
    space = classifier.label_space
    p = classifier.predict_node_proba(texts)
    for node, up in enumerate(space.tree.parents):
        if up >= 0:
            assert (p[:, node] <= p[:, up]).all()
    for answer in classifier.predict(texts):
        nodes = set(space.tree.path(answer)) if isinstance(answer, str) else set(answer or ())
        assert all(set(space.tree.path(node)) <= nodes for node in nodes)
