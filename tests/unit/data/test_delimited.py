from __future__ import annotations

import pytest

from sortal.data.delimited import DelimitedFile
from sortal.errors import DataError


def rows(path, heard):
    source = DelimitedFile(path, path.name, heard)
    return [
        tuple(batch.columns[name][i] for name in source.columns)
        for batch in source.batches()
        for i in range(batch.size)
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found_from_the_header(write, heard, delimiter):
    path = write("a.csv", f"text{delimiter}label\nhello{delimiter}x\n")
    assert rows(path, heard) == [("hello", "x")]


def test_delimiter_of_the_rows_wins_over_commas_inside_header_names(write, heard):
    path = write("a.csv", "text, full\tlabel, main\nhello, you\tx\n")
    assert rows(path, heard) == [("hello, you", "x")]


def test_quotes_line_breaks_and_crlf_are_kept_exactly(write, heard):
    path = write("a.csv", 'text,label\r\n"line 1\r\nline ""2"", end",x\r\nplain,y\r\n')
    assert rows(path, heard) == [('line 1\r\nline "2", end', "x"), ("plain", "y")]


def test_ten_megabyte_cell_is_read(write, heard):
    big = "äb " * 3_500_000
    assert rows(write("a.csv", f'text,label\n"{big}",x\n'), heard) == [(big, "x")]


def test_line_numbers_count_line_breaks_inside_cells(write, heard):
    source = DelimitedFile(write("a.csv", 'text,label\n"a\nb",x\nc,y\n'), "a.csv", heard)
    (batch,) = source.batches()
    assert list(batch.lines) == [2, 4]


def test_ragged_rows_name_the_first_five_with_lines(write, heard):
    path = write("a.csv", "text,label\n" + '"a\nb",x\n' + "too,many,cells\n" * 7)
    with pytest.raises(DataError) as error:
        rows(path, heard)
    message = str(error.value)
    assert "row 2 (line 4): has 3 cells, the header has 2" in message
    assert "row 6 (line 8)" in message
    assert "row 7" not in message


def test_nul_names_row_and_column(write, heard):
    with pytest.raises(DataError, match=r"row 2 \(line 3\): column 'text' has a NUL byte"):
        rows(write("a.csv", b"text,label\nok,x\nba\0d,y\n"), heard)


def test_unclosed_quote_names_the_line_it_starts_on(write, heard):
    with pytest.raises(DataError, match=r"line 3: a quoted cell that starts here is never closed"):
        rows(write("a.csv", 'text,label\nok,x\n"never closed,y\nmore,z\n'), heard)


def test_stray_quote_is_refused(write, heard):
    with pytest.raises(DataError, match="line 2: stray quote"):
        rows(write("a.csv", 'text,label\n"he said "hi" there",y\n'), heard)


def test_backslash_escaped_quotes_are_read_and_said(write, heard):
    path = write("a.csv", 'text,label\n"he said \\"hi\\", ok",y\n')
    assert rows(path, heard) == [('he said "hi", ok', "y")]
    assert heard.about("backslash")


def test_tsv_with_literal_quotes_keeps_every_line(write, heard):
    path = write("a.tsv", 'text\tlabel\n"unclosed\tx\nother\ty\nclosed"\tz\n')
    assert rows(path, heard) == [('"unclosed', "x"), ("other", "y"), ('closed"', "z")]
    assert heard.about("quotes are part of the text")


def test_tsv_with_real_quoting_is_unquoted(write, heard):
    path = write("a.tsv", 'text\tlabel\n"say ""hi"""\tx\n"two\nlines"\ty\n')
    assert rows(path, heard) == [('say "hi"', "x"), ("two\nlines", "y")]


def test_duplicate_header_is_refused(write, heard):
    with pytest.raises(DataError, match="duplicate column 'text'"):
        rows(write("a.csv", "text,label,text\na,b,c\n"), heard)


def test_unnamed_index_columns_are_kept_apart(write, heard):
    source = DelimitedFile(write("a.csv", ",text,\n0,hello,z\n"), "a.csv", heard)
    assert source.columns == ("Unnamed: 0", "text", "Unnamed: 2")


def test_blank_line_in_a_one_column_file_is_an_empty_row_but_not_at_the_end(write, heard):
    assert rows(write("a.csv", "text\na\n\nb\n\n\n"), heard) == [("a",), ("",), ("b",)]


def test_many_batches_keep_order_and_count(write, heard):
    path = write("a.csv", "text,label\n" + "".join(f"t{i},l\n" for i in range(2_500)))
    source = DelimitedFile(path, "a.csv", heard)
    batches = list(source.batches(["text"]))
    assert [text for batch in batches for text in batch.columns["text"]] == [f"t{i}" for i in range(2_500)]
    assert [batch.first_row for batch in batches] == [1, 1001, 2001]
