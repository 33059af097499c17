"""The documentation: it builds without a warning, says what the code says, and asks no network for anything."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import sortal
from browser import visit
from sortal import errors
from sortal.cli.main import VERBS, main
from sortal.config import RunConfig

ROOT = Path(__file__).parents[2]
BELOW = {
    "models": ("list", "pull", "show"),
    "config": ("schema", "show", "validate"),
    "import": ("wipo-alpha",),
}
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages; ``strict`` makes a warning, such as a link that leads nowhere, an error."""
    for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(package, reason="needs the extra docs (pip install 'sortal[docs]')")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("docs") / "site"
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder))
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return folder


class Page(HTMLParser):
    """What a page loads, and the text that it shows."""

    def __init__(self, path):
        super().__init__()
        self.loads, self.words = [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        value = dict(attrs).get(LOADS.get(tag, ""))
        if value and dict(attrs).get("rel") not in ("next", "prev", "canonical"):
            self.loads.append(value)

    def handle_data(self, data):
        self.words.append(data)


def test_no_page_loads_anything_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 35
    loaded = {(page.name, value) for page in pages for value in Page(page).loads}
    assert any(value.endswith(".css") for _, value in loaded)
    assert [item for item in loaded if re.match(r"(https?:)?//", item[1])] == []
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import\s+)[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), (
            sheet
        )


@pytest.mark.slow
def test_a_browser_finds_pages_from_the_disk_and_asks_no_network(site, tmp_path):
    seen = visit(f"{site}/index.html?q=temperature", tmp_path, "--virtual-time-budget=20000")
    found = seen.dom[seen.dom.index("md-search-result__list") :]
    assert "explanation/thresholds-and-calibration.html" in found[: found.index("md-container")]
    assert seen.requests == []
    assert seen.console == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_that_help_shows_is_in_the_reference(site, capsys, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "200")
    for below in ([], *([name] for name in BELOW.get(verb, ()))):
        assert main([verb, *below, "--help"]) == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    text = Page(site / "reference" / "cli.html").text
    part = text.rpartition(f"sortal {verb} ¶")[2].partition("¶")[0] if verb not in BELOW else text
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", shown)) - {"--help"}
    assert len(options) >= {"doctor": 1, "config": 1, "models": 2}.get(verb, 3)
    assert {option for option in options if not re.search(rf"{option}(?![\w-])", part)} == set()


def test_defaults_of_options_are_in_the_reference(site):
    text = Page(site / "reference" / "cli.html").text
    assert re.search(r"--port VALUE .{0,80}\(default: 8000\)", text)
    assert re.search(r"--seed VALUE of the bootstrap \(default: 0\)", text)
    assert re.search(r"--texts / --no-texts show texts of test rows \(default: on\)", text)


def test_every_setting_is_in_the_reference_with_what_it_does(site):
    html = (site / "reference" / "settings.html").read_text(encoding="utf-8")
    text = Page(site / "reference" / "settings.html").text
    for name, field in RunConfig.model_fields.items():
        assert f'id="{name}"' in html, name
        assert field.description, name
        assert re.sub(r"\s+", " ", field.description) in text, name


def test_defaults_of_methods_are_in_the_reference(site):
    text = Page(site / "reference" / "settings.html").text
    assert re.search(r"learning_rate number > 0 0\.002 ; encoder: 5e-5", text)
    assert re.search(r"warmup_ratio number ≥ 0, < 1 0\.05 ; encoder: 0\.1", text)
    assert re.search(r"model text – ?; encoder: +minilm-l6", text)


def test_every_public_name_and_error_is_in_the_python_reference(site):
    html = (site / "reference" / "python.html").read_text(encoding="utf-8")
    for name in set(sortal.__all__) - {"__version__"}:
        assert re.search(rf'id="sortal(\.\w+)*\.{name}"', html), name
    for name in vars(errors):
        if isinstance(getattr(errors, name), type) and issubclass(getattr(errors, name), errors.SortalError):
            assert f'id="sortal.errors.{name}"' in html, name


def test_all_exit_codes_and_environment_variables_are_in_the_reference():
    codes = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    raised = {
        item.exit_code
        for item in vars(errors).values()
        if isinstance(item, type) and hasattr(item, "exit_code")
    }
    assert {str(code) for code in raised} <= set(re.findall(r"^\| (\d+)", codes, re.MULTILINE))
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    variables = set(re.findall(r'"(SORTAL_[A-Z_]+)"', source))
    assert {"SORTAL_CACHE", "SORTAL_STATES_GB"} <= variables
    listed = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    assert {name for name in variables if f"`{name}`" not in listed} == set()


def test_every_code_block_names_its_language():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        fences = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) % 2 == 0, page
        assert all(fences[::2]), page
        assert not any(fences[1::2]), page
