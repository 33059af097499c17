from __future__ import annotations

from dataclasses import replace

from sortal.config import build_config
from sortal.data.dataset import Dataset
from sortal.data.groups import dependent_rows, shared_groups
from sortal.data.schema import Schema
from sortal.parts import read_parts


def of(groups, source="train.csv"):
    texts = [f"{source} {i}" for i in range(len(groups))]
    return replace(Dataset.from_lists(texts, groups=groups, source=source), schema=Schema(group="who"))


def test_rows_of_groups_that_were_trained_on_are_counted_and_named():
    said = shared_groups(of(["ann", "bob", None]), of(["ann", "eve", "ann", None], "test.csv"))
    assert said.startswith(
        "warning: 2 rows of test.csv (50.0%) are of groups that train.csv has rows of, too (who: 'ann')"
    )


def test_rows_of_one_group_are_said_to_be_drawn_together():
    assert "3 test rows are of 2 groups (who)" in dependent_rows(of(["a", "a", "b", None]))


def test_nothing_is_said_without_groups_or_shared_ones():
    alone = Dataset.from_lists(["x", "y"])
    assert shared_groups(of(["a", None]), of(["b", None])) == ""
    assert shared_groups(of(["a"]), alone) == shared_groups(alone, of(["a"])) == ""
    assert dependent_rows(of(["a", "b", None, None])) == dependent_rows(alone) == ""


def test_a_run_says_what_groups_mean_for_its_figures(write, heard):
    def rows(name, groups):
        lines = (f"{name} {i},{'ab'[i % 2]},{group}" for i, group in enumerate(groups))
        return "\n".join(["text,label,who", *lines])

    train = write("train.csv", rows("train", [f"g{i // 3}" for i in range(60)]))
    settings = {"data": str(train), "group": "who", "method": "majority"}
    read_parts(build_config(settings), heard)
    assert heard.about("intervals and tests draw groups, not rows")
    assert not heard.about("that train.csv has rows of, too"), "a split keeps them apart"

    given = {
        "dev": str(write("dev.csv", rows("dev", ["h1", "h2"])).resolve()),
        "test": str(write("test.csv", rows("test", ["g1", "h3"]))),
    }
    heard.clear()
    parts = read_parts(build_config(settings | given), heard)
    assert heard.about(
        f"1 row of {given['test']} (50.0%) is of groups that {train} has rows of, too (who: 'g1')"
    )
    assert not heard.about(f"of {given['dev']}")
    assert not heard.about("intervals and tests draw")
    without = write("plain.csv", "text,label\nx,a\ny,b\n")
    assert len(read_parts(build_config(settings | given | {"test": str(without)}), heard).test) == 2
    assert (
        parts.fingerprints()["dev"]
        == read_parts(
            build_config({**given, "data": str(train), "method": "majority"}), heard
        ).fingerprints()["dev"]
    )
