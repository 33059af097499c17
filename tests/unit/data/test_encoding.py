from __future__ import annotations

import gzip

import pytest

from sortal.data.encoding import detect
from sortal.errors import DataError

TEXT = "text,label\ncafé – naïve,a\nпривет 😀,b\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_unicode_encodings_are_read_right_with_and_without_marks(write, heard, encoding):
    file = detect(write("a.csv", TEXT.encode(encoding)), heard)
    with file.open() as stream:
        assert stream.read() == TEXT


def test_big_endian_mark_is_honoured(write, heard):
    file = detect(write("a.csv", b"\xfe\xff" + TEXT.encode("utf-16-be")), heard)
    with file.open() as stream:
        assert stream.read() == TEXT


def test_cp1252_is_read_right_and_said(write, heard):
    file = detect(write("old.csv", "text,label\n“café” costs 5 €,a\n".encode("cp1252")), heard)
    with file.open() as stream:
        assert "“café” costs 5 €" in stream.read()
    assert heard.about("read as cp1252")
    assert heard.about("old.csv")


def test_one_bad_byte_late_in_a_utf8_file_is_refused_with_its_line(write, heard):
    lines = "text,label\n" + "naïve,a\n" * 300_000
    path = write("a.csv", lines.encode() + b"caf\xe9,b\n")
    with pytest.raises(DataError, match=r"line 300,002 \(byte 0xe9\)"):
        detect(path, heard)


def test_a_utf8_character_cut_off_at_the_end_is_refused(write, heard):
    with pytest.raises(DataError, match="line 3"):
        detect(write("a.csv", "text\né\né".encode()[:-1]), heard)


def test_other_single_byte_encodings_are_refused_rather_than_read_as_cp1252(write, heard):
    with pytest.raises(DataError, match="not UTF-8"):
        detect(write("a.csv", ("text,label\n" + "привет мир,а\n" * 20).encode("cp1251")), heard)


def test_bytes_that_cp1252_does_not_have_are_refused(write, heard):
    with pytest.raises(DataError, match=r"line 2.*0x81"):
        detect(write("a.csv", b"text,label\nab\x81,x\n"), heard)


@pytest.mark.parametrize("content", [b"", b" \n\n"])
def test_empty_file_is_refused(write, heard, content):
    with pytest.raises(DataError, match="is empty"):
        detect(write("a.csv", content), heard)


def test_gzip_is_read_and_a_cut_gzip_is_refused(write, heard):
    packed = gzip.compress(TEXT.encode())
    with detect(write("a.csv.gz", packed), heard).open() as stream:
        assert stream.read() == TEXT
    with pytest.raises(DataError, match="gzip"):
        detect(write("b.csv.gz", packed[:-12]), heard)
