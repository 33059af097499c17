"""Which texts an export is compared on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.errors import DataError
from sortal.exporting.texts import HARD, check_texts


def subject(folder, **meta):
    space = LabelSpace(("card_lost", "refund"), "single")
    values = {"truncation": "head", **meta}
    long = values.get("long_texts")
    return SimpleNamespace(folder=folder, method="head", meta=values, space=space, max_length=12, long=long)


def reader(texts):
    found = Dataset.from_lists(texts)
    return SimpleNamespace(read=lambda *a, **k: found)


def test_rows_of_a_given_file_are_drawn_in_their_order_and_hard_texts_follow(tiny):
    texts = [f"row {i:02}" for i in range(50)]
    found = check_texts(subject(tiny), reader(texts), "given.csv", 20)
    assert found.rows == 20
    assert found.source == "given.csv"
    assert found.texts[:20] == sorted(set(found.texts[:20]))
    assert tuple(found.texts[20:]) == HARD


def test_a_file_without_rows_is_refused(tiny):
    with pytest.raises(DataError, match=r"given\.csv has no rows"):
        check_texts(subject(tiny), reader([]), "given.csv", 20)


def test_without_the_runs_rows_label_names_stand_in_sentences(tiny):
    found = check_texts(subject(tiny), reader([]), None, 200)
    assert "label names in sentences" in found.source
    assert "This is about card lost." in found.texts
    assert found.rows == 10


@pytest.mark.parametrize("meta", [{"truncation": "head+tail"}, {"long_texts": {"windows": 2}}])
def test_texts_that_only_sortal_can_read_so_are_left_out(tiny, meta):
    texts = ["short", "exactly 12 b", "longer than twelve bytes"]
    found = check_texts(subject(tiny, **meta), reader(texts), "given.csv", 10)
    assert found.texts[: found.rows] == texts[:2]
    assert HARD[-1] not in found.texts
