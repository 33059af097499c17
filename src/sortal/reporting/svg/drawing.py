"""Elements of an SVG drawing, escaped, in user units of about one CSS pixel."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

# What tells series apart beside their colour: a dash pattern and a shape each.
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2 1 2")
SHAPES = ("circle", "square", "triangle", "diamond", "ring", "cross")
CHARACTER = 7.0  # width of a character of 13 px, on average; generous, so that labels do not touch
Point = tuple[float, float]


class Drawing:
    """A drawing of fixed size that scales with the page."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._parts: list[Markup] = []

    def add(self, name: str, content: str = "", **attributes: str | float) -> None:
        """One element; ``class_`` is ``class``, other underscores are hyphens, numbers are rounded to 0.1."""
        written = Markup("").join(
            Markup(' {}="{}"').format(Markup(key.rstrip("_").replace("_", "-")), _number(value))
            for key, value in attributes.items()
        )
        self._parts.append(Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, escape(content)))

    def line(self, start: Point, end: Point, class_: str) -> None:
        """A straight line."""
        self.add("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=class_)

    def text(self, at: Point, words: str, class_: str = "", anchor: str = "start") -> None:
        """Words whose baseline is at ``at``; anchor: start, middle or end."""
        self.add("text", words, x=at[0], y=at[1], class_=class_, text_anchor=anchor)

    def path(self, points: Sequence[Point], series: int) -> None:
        """A line through points in the colour and dash pattern of a series."""
        if len(points) < 2:
            return
        drawn = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self.add(
            "polyline", points=drawn, class_=f"curve c{series % 6}", stroke_dasharray=DASHES[series % 6] or "none"
        )  # fmt: skip

    def marker(self, at: Point, series: int, size: float = 4.5) -> None:
        """A point in the colour and shape of a series."""
        (x, y), shape, class_ = at, SHAPES[series % 6], f"mark c{series % 6}"
        if shape == "circle":
            self.add("circle", cx=x, cy=y, r=size, class_=class_)
        elif shape == "ring":
            self.add("circle", cx=x, cy=y, r=size, class_=f"open {class_}")
        elif shape == "square":
            self.add("rect", x=x - size, y=y - size, width=2 * size, height=2 * size, class_=class_)
        elif shape == "triangle":
            self.add("polygon", points=_corners((x, y - size), (x + size, y + size), (x - size, y + size)), class_=class_)  # fmt: skip
        elif shape == "diamond":
            self.add("polygon", points=_corners((x, y - size), (x + size, y), (x, y + size), (x - size, y)), class_=class_)  # fmt: skip
        else:
            self.add("path", d=f"M{_number(x - size)} {_number(y - size)}l{2 * size} {2 * size}m0 {-2 * size}l{-2 * size} {2 * size}", class_=f"open {class_}")  # fmt: skip

    def svg(self, id: str, title: str, description: str, class_: str = "chart") -> Markup:
        """The ``<svg>`` element; ``id`` is unique in the page."""
        return Markup(
            '<svg id="{0}" class="{5}" viewBox="0 0 {1} {2}" role="img" aria-labelledby="{0}-title {0}-desc">'
            '<title id="{0}-title">{3}</title><desc id="{0}-desc">{4}</desc>{6}</svg>'
        ).format(
            id,
            _number(self.width),
            _number(self.height),
            title,
            description,
            class_,
            Markup("").join(self._parts),
        )


def _corners(*points: Point) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
