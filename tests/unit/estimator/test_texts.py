"""X in the forms that people have it in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from sortal import SortalClassifier
from sortal.errors import ConfigError, DataError, InputError
from sortal.estimator.texts import read_columns

TEXTS = ["fine", "", "two\nlines", "文字 \U0001f600"]


def texts(X, template=None):
    return read_columns(SortalClassifier(), X, reset=True).join(template, "X")


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        np.array,
        lambda made: np.array(made, dtype=object),
        pd.Series,
        pd.Index,
        lambda made: pd.Series(made, dtype="category"),
        lambda made: pd.Series(made, index=[9, 3, 3, 1]),
        lambda made: pd.DataFrame({"body": made}),
        lambda made: np.array(made)[:, None],
        lambda made: [[text] for text in made],
    ],
)
def test_one_text_per_row_comes_as_it_is(form):
    assert texts(form(TEXTS)) == TEXTS


@pytest.mark.parametrize(
    "X",
    [
        ["a", None, float("nan"), "b"],
        np.array(["a", None, np.nan, "b"], dtype=object),
        pd.Series(["a", None, np.nan, "b"]),
        pd.Series(["a", pd.NA, pd.NaT, "b"], dtype=object),
        pd.Series(["a", pd.NA, None, "b"], dtype="string"),
    ],
)
def test_missing_text_is_empty_and_keeps_its_row(X):
    assert texts(X) == ["a", "", "", "b"]


def test_a_column_without_any_text_is_empty_texts():
    assert texts(pd.Series([np.nan, np.nan])) == ["", ""]


def test_several_columns_are_joined_as_in_a_file(tmp_path):
    from sortal.data.reading import read

    frame = pd.DataFrame({"title": ["a", None, " ", "d"], "body": ["b", "c", "x", None], "n": [1, 2, 3, 4]})
    frame.to_csv(tmp_path / "d.csv", index=False)
    for template in (None, "{title}: {body}"):
        arguments = {"text": ["title", "body"], "text_template": template, "need_labels": False}
        file = read(tmp_path / "d.csv", **arguments, say=lambda line: None)
        assert texts(frame[["title", "body"]], template) == file.texts
    assert texts(frame)[0] == "a\nb\n1"
    assert texts([["a", "b"], ["c", None]]) == ["a\nb", "c"]


def test_numbers_in_columns_are_read_as_written():
    assert texts(np.array([[1.5, 2.0], [float("nan"), -3.0]])) == ["1.5\n2.0", "-3.0"]


@pytest.mark.parametrize(
    ("X", "reason"),
    [
        ("one text", r"X is one string, not a list of texts\n→ write \[text\]"),
        (csr_array(np.eye(3)), "Sparse input is not supported"),
        ({"a", "b"}, "X is a set, not a list"),
        ((text for text in TEXTS), "X is a generator, not a list"),
        (np.array([1.0, 2.0]), r"one-dimensional array of float64.*\n→ Reshape your data"),
        (np.zeros((2, 2, 2)), "X has 3 dimensions"),
        (np.zeros((3, 0)), r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1 is required"),
        ([["a", "b"], ["c"]], "rows of 1 to 2 columns"),
        (pd.DataFrame([["a", "b"]], columns=["x", "x"]), "names a column twice: x, x"),
    ],
)
def test_what_holds_no_texts_is_refused(X, reason):
    with pytest.raises(InputError, match=reason):
        texts(X)


def test_a_cell_that_is_no_text_is_named():
    with pytest.raises(DataError, match="X, row 2, column 'text': the text is a bytes"):
        texts(["a", b"b"])
    with pytest.raises(ConfigError, match="text_template names 'titel'"):
        texts(pd.DataFrame({"title": ["a"]}), "{titel}")


def test_columns_are_remembered_and_checked():
    frame = pd.DataFrame({"title": ["a"], "body": ["b"]})
    estimator = SortalClassifier()
    read_columns(estimator, frame, reset=True)
    assert estimator.n_features_in_ == 2
    assert list(estimator.feature_names_in_) == ["title", "body"]
    read_columns(estimator, frame, reset=False)
    for other in (["a"], frame[["title"]]):
        with pytest.raises(ValueError):
            read_columns(estimator, other, reset=False)
    with pytest.raises(ValueError, match="same order"):
        read_columns(estimator, frame[["body", "title"]], reset=False)
    read_columns(estimator, ["a"], reset=True)
    assert estimator.n_features_in_ == 1
    assert not hasattr(estimator, "feature_names_in_")
