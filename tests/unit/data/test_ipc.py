"""IPC symbols: every form of one symbol is one symbol, and what is none is refused with the reason."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.data.ipc import LEVELS, IpcSymbol, parse
from sortal.errors import DataError

LETTERS = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SUBGROUPS = st.from_regex(r"[0-9]{2}([0-9]{0,3}[1-9])?", fullmatch=True)
SUBCLASSES = st.builds(
    IpcSymbol, st.sampled_from("ABCDEFGH"), st.integers(1, 99).map(lambda n: f"{n:02}"), LETTERS
)
GROUPS = st.builds(
    lambda above, group, sub: IpcSymbol(above.section, above.class_number, above.subclass_letter, group, sub),
    SUBCLASSES,
    st.integers(1, 9999),
    SUBGROUPS,
)
SYMBOLS = st.one_of(
    st.sampled_from("ABCDEFGH").map(IpcSymbol),
    SUBCLASSES.map(lambda symbol: IpcSymbol(symbol.section, symbol.class_number)),
    SUBCLASSES,
    GROUPS,
)


@given(SYMBOLS)
def test_every_form_reads_as_the_same_symbol(symbol):
    assert parse(symbol.packed) == parse(symbol.long) == parse(symbol.written) == symbol


@given(GROUPS, st.sampled_from(["", " ", "   ", "\t", "\u00a0"]), st.booleans())
def test_spacing_and_case_do_not_matter(symbol, space, lower):
    text = f"{space}{symbol.section}{space}{symbol.class_number}{symbol.subclass_letter}{space}{symbol.main_group:04}{space}/{space}{symbol.subgroup}{space}"
    assert parse(text.lower() if lower else text) == symbol


@given(GROUPS)
def test_the_label_of_a_level_is_the_symbol_cut_there(symbol):
    for level in LEVELS:
        cut = parse(symbol.prefix(level))
        assert cut.prefix(level) == symbol.prefix(level)
        assert symbol.packed.startswith(symbol.prefix(level)) or symbol.main_group > 999
    assert parse(symbol.prefix("main_group")).level == "main_group"
    assert parse(symbol.prefix("subgroup")) == symbol


@given(SYMBOLS, SYMBOLS)
def test_two_symbols_never_share_a_form(one, other):
    if one != other:
        assert one.packed != other.packed
        assert one.long != other.long
        assert one.written != other.written


@given(st.text(max_size=16))
def test_any_text_is_a_symbol_or_refused(text):
    try:
        symbol = parse(text)
    except DataError:
        return
    assert parse(symbol.packed) == symbol
    assert parse(text.swapcase()) == symbol


@pytest.mark.parametrize(
    ("text", "packed", "long", "written", "level"),
    [
        ("D01D00106", "D01D00106", "D01D0001060000", "D01D 1/06", "subgroup"),
        ("A01C0005000000", "A01C00500", "A01C0005000000", "A01C 5/00", "main_group"),
        ("a01d 42 / 04", "A01D04204", "A01D0042040000", "A01D 42/04", "subgroup"),
        ("A61K 31/4150", "A61K031415", "A61K0031415000", "A61K 31/415", "subgroup"),
        ("B29K 2105/00", "B29K2105000000", "B29K2105000000", "B29K 2105/00", "main_group"),
        ("D01D001", "D01D00100", "D01D0001000000", "D01D 1/00", "main_group"),
        ("D01D0001", "D01D00100", "D01D0001000000", "D01D 1/00", "main_group"),
        ("D01D", "D01D", "D01D", "D01D", "subclass"),
        ("d01", "D01", "D01", "D01", "class"),
        ("D", "D", "D", "D", "section"),
    ],
)
def test_forms_worked_out_by_hand(text, packed, long, written, level):
    symbol = parse(text)
    assert (symbol.packed, symbol.long, symbol.written, symbol.level) == (packed, long, written, level)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("X01D00106", "section 'X' is not one of A to H"),
        ("D1", "class '1' is not two digits"),
        ("DO1D00106", "class 'O1' is not two digits"),
        ("D00D00106", "class '00' is not two digits"),
        ("D01100106", "subclass '1' is not a letter"),
        ("D01D00006", "main groups begin at 1"),
        ("D01D 0/06", "main groups begin at 1"),
        ("D01D 1 06", "'1 06' behind the subclass"),
        ("D01D1", "'1' has 1 digit:"),
        ("D01D00010600001", "'00010600001' has 11 digits"),
        ("D01D 1/6", "'1/6' is not a main group of 1 to 4 digits, a slash and 2 to 6"),
        ("D01D 1/06/02", "is not a main group"),
        ("D01D-001", "behind the subclass is neither digits nor"),
        ("A01B0051000000-A01B0075000000", "behind the subclass is neither digits nor"),
        ("D01D\u0661/06", "outside ASCII"),
    ],
)
def test_what_is_no_symbol_is_refused_with_the_reason(text, why):
    with pytest.raises(DataError) as refused:
        parse(text)
    assert why in refused.value.what


def test_a_symbol_has_no_label_below_where_it_ends():
    with pytest.raises(DataError, match="D01D has no main group"):
        parse("D01D").prefix("main_group")
    with pytest.raises(DataError, match="D has no subclass"):
        parse("D").prefix("subclass")


def test_symbols_of_real_patents_are_read_and_written_as_they_were(data_root):
    path = data_root / "us_patents_ipc" / "dev.parquet"
    if not path.exists():
        pytest.skip("the patents are not on this machine")
    rows = pq.read_table(path, columns=["main_ipc", "ipc"]).to_pylist()
    symbols = {symbol for row in rows for symbol in (row["main_ipc"], *row["ipc"])}
    assert len(symbols) > 1000
    assert {symbol for symbol in symbols if parse(symbol).written != symbol} == set()
