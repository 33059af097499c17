"""The page of ``sortal serve`` in a real browser: texts, words, keys, reports; by keyboard, on a phone, for every eye."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sortal
import sortal.data.reading
from sortal.serving.keys import Keys
from visits import classify, label_rows, open_server, percent, shown

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright (pip install playwright)").expect

TEXT = "a fine and nice parcel"
MARKUP = "<img src=x onerror=alert(1)>"


# a text


def test_a_text_gets_its_labels_and_the_others_on_demand(visit, site, many):
    url, _ = site
    page = visit(url).page
    classify(page, "topic_03 thing", "many")
    classifier = sortal.load(many)
    (probs,) = classifier.predict_proba(["topic_03 thing"]).tolist()
    expected = sorted(
        zip(classifier.classes_, map(percent, probs), probs, strict=True), key=lambda one: -one[2]
    )
    assert shown(page) == [one[:2] for one in expected[:5]]
    assert page.locator("#answer").text_content() == f"topic_03 {expected[0][1]}"
    assert re.fullmatch(r"Answered in [\d.,]+ ms\.", page.locator("#cost").text_content())
    page.get_by_role("button", name="Show all 12 labels").click()
    assert sorted(shown(page)) == sorted(one[:2] for one in expected)
    page.get_by_role("button", name="Show fewer labels").click()
    assert len(shown(page)) == 5


def test_texts_and_labels_are_never_markup(visit, site):
    page = visit(site[0]).page
    classify(page, f"{MARKUP} thing <b>bold</b>", "many")
    assert shown(page)[0][0] == MARKUP
    page.get_by_role("button", name="Show the words").click()
    expect(page.locator("#marked")).to_have_text(f"{MARKUP} thing <b>bold</b>")
    assert page.locator("main img, main b").count() == 0


def test_a_multi_label_model_has_a_line_for_every_threshold(visit, site, made):
    page = visit(site[0]).page
    classify(page, "late parcel money", "several")
    decision = sortal.load(made("tfidf, multi")).decision
    names = sortal.load(made("tfidf, multi")).classes_
    thresholds = dict(zip(names, decision.thresholds, strict=True))
    for item in page.locator("#labels li").all():
        line = thresholds[item.locator(".label").text_content()]
        assert item.locator(".bar-track").get_attribute("title") == f"threshold {percent(line)}"
        track, mark = item.locator(".bar-track").bounding_box(), item.locator(".bar-line").bounding_box()
        assert (mark["x"] + 1 - track["x"]) / track["width"] == pytest.approx(line, abs=0.01)
    assert set(page.locator("#answer .label").all_text_contents()) == {"m", "p"}
    classify(page, "hello")
    expect(page.locator("#answer")).to_have_text("No label: none reaches its threshold")


def test_a_model_that_abstains_says_so_and_where_its_line_is(visit, site):
    page = visit(site[0]).page
    classify(page, "of nothing known", "unsure")
    expect(page.locator("#answer")).to_contain_text("No label: the best one, ")
    expect(page.locator("#legend")).to_contain_text("a label is given from 90.0 % on")
    assert page.locator("#labels li.given").count() == 0


# words


def test_words_are_scored_only_when_asked_for_and_cost_is_told(visit, site):
    opened = visit(site[0])
    page = opened.page

    def asked() -> int:
        return sum(url.endswith("/explain") for url in opened.requests)

    classify(page, TEXT, "single")
    expect(page.locator("#explain-cost")).to_contain_text("up to 64 more texts")
    assert asked() == 0
    page.get_by_role("button", name="Show the words").click()
    expect(page.locator("#explained")).to_be_visible()
    assert re.match(r"6 texts scored in [\d,]+ ms\.", page.locator("#explained-cost").text_content())
    expect(page.locator("#marked")).to_have_text(TEXT)
    assert set(page.locator("#marked .word.for").all_text_contents()) >= {"fine", "nice"}
    strongest = page.locator("#effects tr").first
    assert strongest.locator("th").text_content() in ("fine", "nice")
    assert strongest.locator("td").first.text_content().startswith("+")
    page.get_by_label("Words for the label").select_option(label="bad")
    assert set(page.locator("#marked .word.against").all_text_contents()) >= {"fine", "nice"}
    assert asked() == 1, "another label costs nothing"


def test_the_words_of_a_long_text_are_taken_together(visit, site):
    page = visit(site[0]).page
    classify(page, "fine word " * 100, "single")
    page.get_by_role("button", name="Show the words").click()
    expect(page.locator("#explained-cost")).to_contain_text(
        "left out together, in 64 groups. 65 texts scored"
    )


# keys, reports


def test_a_key_is_asked_for_and_kept_out_of_every_address(visit, many, tmp_path):
    (tmp_path / "keys").write_text("the-only-key-there-is\n")
    (many.parent / "report.html").write_text("<h1>Figures of many</h1>")
    with open_server(many, keys=Keys.read(str(tmp_path / "keys"))) as (url, served):
        opened = visit(url)
        page = opened.page
        key = page.get_by_label("API key")
        expect(key).to_be_focused()
        expect(page.get_by_label("Text", exact=True)).to_be_hidden()
        key.fill("the-only-key-there-was")
        key.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("does not accept this key")
        key.fill("the-only-key-there-is")
        key.press("Enter")
        classify(page, "topic_01 thing")
        expect(page.get_by_role("alert")).to_be_empty()
        page.reload()
        classify(page, "topic_01 thing")
        with page.expect_download() as download:
            page.get_by_role("link", name="Save the report of this model").click()
        assert Path(download.value.path()).read_text() == "<h1>Figures of many</h1>"
        page.get_by_role("button", name="Forget the key").click()
        expect(key).to_be_focused()
        assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [0, 0, ""]
        assert not [address for address in opened.requests if "only-key" in address]
        assert "only-key" not in served.written.getvalue()
    (many.parent / "report.html").unlink()


def test_the_report_of_a_model_is_a_link_where_there_is_one(visit, site, many):
    (many.parent / "report.html").write_text(
        "<h1>Figures of many</h1><script>document.title = 'ran'</script>"
    )
    opened = visit(site[0])
    page = opened.page
    link = page.get_by_role("link", name="Report of this model")
    page.get_by_label("Model").select_option("single")
    expect(link).to_be_hidden()
    page.get_by_label("Model").select_option("many")
    link.click()
    expect(page.get_by_role("heading")).to_have_text("Figures of many")
    assert page.title() != "ran"
    blocked = opened.console.pop()
    assert "sandboxed" in blocked
    (many.parent / "report.html").unlink()


# everybody


def test_the_keyboard_alone_is_enough(visit, site):
    page = visit(site[0]).page
    press = page.keyboard.press
    focused = "document.activeElement.id || document.activeElement.type"
    expect(page.get_by_label("Text", exact=True)).to_be_focused()
    press("Shift+Tab")
    assert page.evaluate(focused) == "model"
    page.keyboard.type("several")
    press("Tab")
    page.keyboard.type("late parcel money")
    press("Control+Enter")
    expect(page.locator("#answer")).to_contain_text("m ")
    expect(page.get_by_role("status")).to_contain_text("2 labels below")
    reached = []
    for _ in range(4):
        press("Tab")
        reached.append(page.evaluate(focused))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        if reached[-1] == "explain":
            break
    assert reached == ["submit", "file", "explain"]
    press("Enter")
    expect(page.get_by_label("Words for the label")).to_be_focused()
    page.keyboard.type("p")
    assert page.locator("#marked .word.for").all_text_contents() == ["late", "parcel"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(scheme, visit, site):
    page = visit(site[0], viewport={"width": 390, "height": 800}, color_scheme=scheme).page
    classify(page, f"fine {'unbroken' * 40} word", "single")
    page.get_by_role("button", name="Show the words").click()
    expect(page.locator("#explained")).to_be_visible()
    label_rows(page, [["text", "a_long_name_of_a_column_" * 4], ["fine " * 200, "x"]], "text")
    expect(page.locator("#table-caption")).to_have_text("1 labelled row")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


CONTRASTS = """() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], below) => [r, g, b].map((c, i) => c * a + below[i] * (1 - a));
  const ground = (node) => {
    const own = parse(getComputedStyle(node).backgroundColor);
    return own[3] === undefined || own[3] === 1 ? own : over(own, node.parentElement ? ground(node.parentElement) : [255, 255, 255]);
  };
  const light = (rgb) => rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  return [...document.querySelectorAll("body *")]
    .filter((node) => node.checkVisibility() && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
    .filter((node) => !node.disabled)
    .map((node) => {
      const behind = ground(node);
      const [a, b] = [light(behind), light(over(parse(getComputedStyle(node).color), behind))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), node.textContent.trim().slice(0, 40)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_enough_to_be_read(scheme, visit, site):
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    page = visit(site[0], color_scheme=scheme).page
    classify(page, TEXT, "single")
    page.get_by_role("button", name="Show the words").click()
    expect(page.locator("#explained")).to_be_visible()
    page.get_by_label("or a CSV file").set_input_files(
        {"name": "x.xlsx", "mimeType": "x", "buffer": b"PK\x03\x04"}
    )
    expect(page.get_by_role("alert")).not_to_be_empty()
    found = page.evaluate(CONTRASTS)
    assert len(found) > 30
    assert [one for one in found if one[0] < 4.5] == []
