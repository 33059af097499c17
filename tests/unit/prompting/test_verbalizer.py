from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.errors import ConfigError
from sortal.prompting.verbalizer import label_texts, make_verbalizer

NAMES = ("card_arrival", "H01L-21", "lost-or-stolen")


def _never(wording):
    return False


def _make(setting, names=NAMES, is_one_token=_never):
    return make_verbalizer(str(setting), names, is_one_token)


def _file(tmp_path, content, name="words.csv"):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return path


# words and labels


@pytest.mark.parametrize(
    ("name", "wording"),
    [
        ("card_arrival", "card arrival"),
        ("lost-or-stolen", "lost or stolen"),
        ("H01L-21", "H01L-21"),
        ("1-2", "1-2"),
        ("top_5", "top 5"),
        ("__private__", "private"),
        ("a  b\tc", "a b c"),
        ("_", "_"),
        ("größe_文字", "größe 文字"),
        ("Plain Label", "Plain Label"),
        ("-1", "-1"),
    ],
)
def test_words_part_names_between_letters_and_leave_codes_alone(name, wording):
    made = _make("words", (name,))
    assert made.answers == made.listed == (wording,)


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5, unique=True
    )
)
def test_setting_label_changes_nothing_or_refuses_white_space(names):
    names = tuple(names)
    if all(name.strip() for name in names):
        made = _make("label", names)
        assert made.answers == made.listed == names
    else:
        with pytest.raises(ConfigError, match="nothing but white space"):
            _make("label", names)


def test_two_labels_with_one_wording_are_both_named():
    with pytest.raises(ConfigError) as error:
        _make("words", ("x", "card_arrival", "card-arrival"))
    assert error.value.what == "labels 'card_arrival' and 'card-arrival' have the same wording 'card arrival'"
    assert "verbalizer to 'label'" in error.value.fix
    assert _make("label", ("x", "card_arrival", "card-arrival")).answers[1:] == (
        "card_arrival",
        "card-arrival",
    )


@pytest.mark.parametrize("setting", ["words", "label"])
def test_a_label_of_white_space_is_refused(setting):
    with pytest.raises(ConfigError, match=r"label ' \\t' is worded as nothing but white space"):
        _make(setting, ("a", " \t"))


# codes


def test_codes_are_the_first_one_token_codes_and_the_list_says_what_they_mean():
    made = _make("codes", is_one_token=lambda code: code not in ("A", "C"))
    assert made.answers == ("B", "D", "E")
    assert made.listed == ("B: card arrival", "D: H01L-21", "E: lost or stolen")


def test_codes_never_repeat_and_reach_beyond_single_letters():
    names = tuple(f"label {i}" for i in range(1000))
    answers = _make("codes", names, lambda code: True).answers
    assert len(set(answers)) == 1000
    assert {len(code) for code in answers} == {1, 2}


def test_too_few_one_token_codes_are_counted():
    with pytest.raises(ConfigError, match="has 2 one-token codes, the task has 3 labels") as error:
        _make("codes", is_one_token=lambda code: code in ("K", "Zz"))
    assert "verbalizer 'words'" in error.value.fix


# files


def test_a_csv_gives_wordings_and_descriptions_in_label_order(tmp_path):
    path = _file(
        tmp_path,
        "\ufefflabel,wording,description\n"
        'lost-or-stolen,stolen card,"lost, or taken"\nH01L-21,,making chips\ncard_arrival,,\n',
    )
    made = _make(path)
    assert made.answers == ("card arrival", "H01L-21", "stolen card")
    assert made.listed == ("card arrival", "H01L-21: making chips", "stolen card: lost, or taken")


@pytest.mark.parametrize("column", ["wording", "description"])
def test_one_of_the_two_columns_is_enough(tmp_path, column):
    made = _make(_file(tmp_path, f"{column},label\none,a\n two ,b\n"), ("a", "b"))
    assert made.answers == (("one", "two") if column == "wording" else ("a", "b"))
    assert made.listed == (("one", "two") if column == "wording" else ("a: one", "b: two"))


def test_a_json_object_gives_wordings(tmp_path):
    path = _file(tmp_path, json.dumps({"b": " größer ", "a": "文字"}), "words.JSON")
    assert _make(path, ("a", "b")).answers == ("文字", "größer")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("label,wording\na,one\n", r"has no row for 2 labels of the data, 'b' first"),
        (
            "label,wording\na,one\nc,three\nbb,four\n",
            r"has no row for 1 labels of the data, 'b' first; did you mean 'bb'\?",
        ),
        ("label,wording\na,one\nb,two\nc,x\na,one\n", r"row 4: label 'a' occurs twice"),
        ("label,wording\na,one\nb,two\nc,one\n", r"labels 'a' and 'c' have the same wording 'one'"),
        ("name,wording\na,one\n", r"lacks the column label"),
        ("label,words\na,one\n", r"lacks the column label, or both wording and description"),
        ("label,wording\n", r"lacks the column label"),
        ("", r"lacks the column label"),
        ("label,wording\na,one, two\nb,x\nc,y\n", r"row 1 has more cells than the header"),
        ("wording,label\none\ntwo,b\nthree,c\n", r"row 1 has no label"),
    ],
)
def test_a_csv_that_does_not_fit_the_labels_says_where(tmp_path, content, complaint):
    path = _file(tmp_path, content)
    with pytest.raises(ConfigError, match=complaint) as error:
        _make(path, ("a", "b", "c"))
    assert error.value.fix


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"a": "one"', "is not valid JSON"),
        ('["a", "b"]', "is not one JSON object of strings"),
        ('{"a": "one", "b": 2}', "is not one JSON object of strings"),
        ('{"a": "one"}', "has no row for 1 labels of the data, 'b' first"),
        ('{"a": "one", "b": "two", "a": "three"}', "label 'a' occurs twice"),
        ('{"a": "one", "b": "one"}', "labels 'a' and 'b' have the same wording 'one'"),
    ],
)
def test_json_that_does_not_fit_the_labels_says_why(tmp_path, content, complaint):
    with pytest.raises(ConfigError, match=complaint):
        _make(_file(tmp_path, content, "words.json"), ("a", "b"))


def test_a_file_may_know_more_labels_than_the_data_has(tmp_path):
    path = _file(tmp_path, '{"a": "one", "b": "two", "other": "x"}', "words.json")
    assert _make(path, ("b", "a")).answers == ("two", "one")


def test_a_model_that_only_reads_labels_may_read_the_same_for_two(tmp_path):
    path = _file(
        tmp_path, "label,wording,description\nA01,farming,in fields\nA02,,farming\nA03,farming,\nx_y,,\n"
    )
    names = ("x_y", "A01", "A02", "A03")
    assert label_texts(str(path), names) == ("x y", "farming: in fields", "farming", "farming")
    assert label_texts("words", names) == ("x y", "A01", "A02", "A03")
    assert label_texts("label", names) == names


def test_neither_a_name_nor_a_file_lists_the_names(tmp_path):
    with pytest.raises(ConfigError, match="'wrods' is neither words, label, codes nor a readable file"):
        _make("wrods")
    with pytest.raises(ConfigError, match="nor a readable file"):
        _make(tmp_path)


def test_a_file_that_is_not_utf8_is_not_guessed_at(tmp_path):
    path = tmp_path / "words.csv"
    path.write_bytes("label,wording\na,größer\n".encode("cp1252"))
    with pytest.raises(ConfigError, match="nor a readable file"):
        _make(path, ("a",))
