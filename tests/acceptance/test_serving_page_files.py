"""Files on the page of ``sortal serve``: read as by ``sortal predict``, labelled row by row, kept as CSV."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest

import sortal
import sortal.data.reading
from baseline_runs import baseline
from sortal.data.delimited import DelimitedFile
from sortal.errors import DataError
from tiny_runs import rows, write_csv
from visits import as_file, downloaded, label_rows, open_server, percent

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright (pip install playwright)").expect


# files

TABLE = [
    ["id", "message", "predicted"],
    ["1", 'fine, "nice"\nand lovely', "x"],
    ["2", "=poor(ugly)", "y"],
    ["-3", "", "z"],
    *([str(n), "broken awful", ""] for n in range(4, 60)),
]


def test_a_file_is_labelled_row_by_row_and_can_be_kept(visit, site, made):
    page = visit(site[0]).page
    page.get_by_label("Model").select_option("single")
    label_rows(page, TABLE, "message")
    expect(page.locator("#bar-words")).to_have_text("59 of 59 rows.")
    expect(page.locator("#table-caption")).to_have_text("The first 20 of 59 labelled rows")
    classifier = sortal.load(made("tfidf"))
    texts = [row[1] for row in TABLE[1:]]
    probs, labels = classifier.predict_proba(texts), classifier.predict(texts)
    cells = [row.locator("td").all_text_contents() for row in page.locator("#table-rows tr").all()]
    assert (
        cells
        == [
            [str(n), text, f"{label} {percent(p.max())}"]
            for n, (text, label, p) in enumerate(zip(texts, labels, probs, strict=True), start=1)
        ][:20]
    )
    page.get_by_label("For spreadsheets").uncheck()
    page.get_by_label("A column with the probability").check()
    text, found = downloaded(page)
    assert not text.startswith("\ufeff")
    names = [f"p:{name}" for name in classifier.classes_]
    assert found[0] == ["id", "message", "predicted", "predicted_2", "probability", *names]
    assert [row[:3] for row in found[1:]] == TABLE[1:]
    assert [row[3] for row in found[1:]] == labels
    assert [[float(value) for value in row[5:]] for row in found[1:]] == pytest.approx(probs, rel=1e-5)
    assert [float(row[4]) for row in found[1:]] == pytest.approx(probs.max(axis=1), rel=1e-5)


def test_what_a_spreadsheet_would_run_is_made_harmless_and_numbers_stay(visit, site):
    page = visit(site[0]).page
    page.get_by_label("Model").select_option("single")
    label_rows(page, TABLE[:4], "message")
    expect(page.locator("#table-caption")).to_have_text("3 labelled rows")
    text, found = downloaded(page)
    assert text.startswith("\ufeff")
    assert [row[0] for row in found[1:]] == ["1", "2", "-3"]
    assert [row[1] for row in found[1:]] == ['fine, "nice"\nand lovely', "'=poor(ugly)", ""]


def test_a_multi_label_file_has_lists_of_labels(visit, site):
    page = visit(site[0]).page
    page.get_by_label("Model").select_option("several")
    label_rows(page, [["text"], ["late parcel money"], ["hello"]], "text")
    expect(page.locator("#table-caption")).to_have_text("2 labelled rows")
    assert page.locator("#table-rows tr").nth(1).locator("td").nth(2).text_content() == "none"
    _, found = downloaded(page)
    assert found == [["text", "predicted"], ["late parcel money", '["m","p"]'], ["hello", "[]"]]


def test_several_columns_are_joined_as_sortal_predict_joins_them(visit, site, tmp_path):
    page = visit(site[0]).page
    table = [["title", "body", "n"], ["fine", "nice", "1"], [" ", "poor", "2"], ["odd", "", "3"]]
    page.get_by_label("Model").select_option("single")
    page.get_by_label("or a CSV file").set_input_files(as_file(table))
    page.get_by_role("button", name="Label all rows").click()
    expect(page.get_by_role("alert")).to_contain_text("No text column is chosen.")
    page.get_by_label("title", exact=True).check()
    page.get_by_label("body", exact=True).check()
    expect(page.locator("#joined")).to_have_text("They are joined, one a line.")
    page.get_by_role("button", name="Label all rows").click()
    expect(page.locator("#table-caption")).to_have_text("3 labelled rows")
    path = write_csv(tmp_path / "table.csv", table[1:], table[0])
    read = sortal.data.reading.read(path, text=("title", "body"), need_labels=False, say=lambda line: None)
    assert page.locator("#table-rows .cut").all_text_contents() == list(read.iter_texts())


def test_the_columns_and_the_template_of_training_are_chosen(visit, tmp_path, one_label):
    lines = [[text, "app", label] for text, label in rows(60)]
    data = write_csv(tmp_path / "data.csv", lines, ["body", "channel", "label"])
    baseline(data, tmp_path / "run", text_template="{channel}: {body}", label="label")
    with open_server(tmp_path / "run" / "model") as (url, _):
        page = visit(url).page
        table = [["n", "body", "channel"], ["1", "fine", "web"]]
        page.get_by_label("or a CSV file").set_input_files(as_file(table))
        expect(page.locator("#joined")).to_have_text("They are joined as in training.")
        page.get_by_role("button", name="Label all rows").click()
        expect(page.locator("#table-rows .cut")).to_have_text("web: fine")


HARD = [
    b"text,label\r\na,b\r\n", b"text;n\na,b;1\n", b'text\tn\n"a\tb"\t1\n', b"a|b\n1|2", b"text\n\none\n\n\ntwo\n\n",
    b'text,n\n"a ""quoted"" word",1\n', b'text,n\n"never closed,1\n', b'text,n\n"stray"x,1\n', b"text,n\na\n", b"a,a\n1,2\n",
    b'text,n\n"with \\"slashes\\"",1\n', b'text\tn\n"a\t1\nb"\t2\n', b"\xef\xbb\xbftext,n\n\xc3\xa9,1\n", b"text,n\n\xe9t\xe9,1\n",
    "text,n\n文,1\n".encode("utf-16"), "text,n\nplain,1\n".encode("utf-16-le"), b"", b"\n\n", b"text,n\n", b",text\n0,a\n", b" text , n \n a , b \n",
    "text,n\né,1\n".encode() + b"\xe9,2\n", b"text,n\na\x00b,1\n", b"text\ra\rb\r", b'text,n\n"a\r\nb",1\n', b"PK\x03\x04 rest", b"text\n\x81\n",
]  # fmt: skip


def by_sortal(content: bytes, path: Path) -> list[list[str]] | None:
    """Header and rows; None for a file that is refused."""
    path.write_bytes(content)
    try:
        source = DelimitedFile(path, path.name, lambda line: None)
        batches = list(source.batches())
        cells = [
            list(row)
            for batch in batches
            for row in zip(*(batch.columns[name] for name in source.columns), strict=True)
        ]
    except DataError:
        return None
    return [list(source.columns), *cells] if cells else None


def test_files_are_read_by_the_page_as_by_sortal(visit, site, tmp_path):
    """Files written by hand and at random: the same header and rows, and the same ones refused."""
    dice = random.Random(5)
    pieces = [
        '"',
        '""',
        ",",
        ",",
        ";",
        "\t",
        "|",
        "\n",
        "\r\n",
        "\\",
        "a",
        "b c",
        "é",
        " ",
        "1",
        'x,"y',
        '\n"',
    ]
    made = ["".join(dice.choices(pieces, k=dice.randrange(2, 24))).encode() for _ in range(600)]
    cells = ["a", "é", '"q"', '"a,b"', '"c\nd"', '""', 'e"f']
    tables = ["h,i\n" + "\n".join(",".join(dice.choices(cells, k=2)) for _ in range(3)) for _ in range(100)]
    cases = [
        (content, f"f{n}.{'tsv' if n % 5 == 0 else 'csv'}")
        for n, content in enumerate([*HARD, *made, *(table.encode() for table in tables)])
    ]
    page = visit(site[0]).page
    read = """async (cases) => {
      const { readTable, Unreadable } = await import("/page/table.js");
      return cases.map(([packed, name]) => {
        try {
          const { columns, rows } = readTable(Uint8Array.from(atob(packed), (c) => c.charCodeAt(0)), name);
          return [columns, ...rows];
        } catch (error) {
          if (error instanceof Unreadable && error.message.length > 10) return null;
          throw error;
        }
      });
    }"""
    found = page.evaluate(read, [[base64.b64encode(content).decode(), name] for content, name in cases])
    expected = [by_sortal(content, tmp_path / name) for content, name in cases]
    wrong = [(case, a, b) for case, a, b in zip(cases, found, expected, strict=True) if a != b]
    assert wrong == []
    assert 50 < sum(one is None for one in expected) < len(expected) - 50
