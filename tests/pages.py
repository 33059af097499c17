"""A report's HTML as the standard library's parser sees it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "wbr", "img", "hr", "input"}
ASKING = ("src", "srcset", "href", "xlink:href", "data", "action", "poster", "background", "style")


class Page(HTMLParser):
    """Elements of a page, checked for what every report must keep."""

    def __init__(self, html):
        super().__init__()
        self.elements = []  # (tag, attributes, text)
        self._open = []
        self.feed(html)
        assert not self._open, self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])
        if tag not in VOID:
            self._open.append((tag, len(self.elements) - 1))

    def handle_endtag(self, tag):
        assert self._open, tag
        assert self._open[-1][0] == tag, (tag, self._open[-3:])
        self._open.pop()

    def handle_data(self, data):
        for _, position in self._open:
            self.elements[position][2] += data

    def all(self, tag, **attributes):
        return [
            e for e in self.elements if e[0] == tag and all(e[1].get(k) == v for k, v in attributes.items())
        ]

    @property
    def text(self):
        return self.all("body")[0][2]

    @property
    def sections(self):
        return [e[1]["id"] for e in self.all("section")]

    def check(self):
        """Ids are unique and pointed to, nothing is fetched or run, every drawing and table says what it is."""
        ids = [e[1]["id"] for e in self.elements if "id" in e[1]]
        assert len(ids) == len(set(ids))
        for tag, attributes, _ in self.elements:
            assert tag not in ("script", "iframe", "object", "embed", "img", "form", "base")
            assert not [name for name in attributes if name.startswith("on")]
            for name in ASKING:
                assert not re.search(r"//|https?:|url\(|javascript:", attributes.get(name) or ""), attributes
            for name in ("aria-labelledby", "aria-describedby"):
                assert set((attributes.get(name) or "").split()) <= set(ids)
            if (attributes.get("href") or "").startswith("#"):
                assert attributes["href"][1:] in ids
        (style,) = self.all("style")
        assert not re.search(r"url\(|@import|//", style[2])
        svgs = self.all("svg")
        assert len(self.all("desc")) == len(svgs)
        assert all(e[2].strip() for e in self.all("desc"))
        assert all(e[1].get("role") == "img" and e[1].get("aria-labelledby") for e in svgs)
        tables = self.all("table")
        assert len(self.all("caption")) == len(tables)
        assert all(e[2].strip() for e in self.all("caption"))
        assert all(e[1].get("scope") in ("row", "col") for e in self.all("th"))
        assert len(self.all("h1")) == 1
        assert self.all("html")[0][1]["lang"]
        return self
