"""From a matplotlib figure to compact inline SVG that wears the page's colours and font.

Drawing uses the light colours of `COLOURS`; here each becomes a CSS variable, so that dark mode and
print restyle the same picture. Text stays text (it can be selected, searched and read aloud).
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

__all__ = ["COLOURS", "FONT_PX", "NARROW", "WIDE", "axes", "drawn", "sheet"]

WIDE, NARROW = 860, 340  # widths in CSS pixels at which nothing is scaled
FONT_PX = 12.0
_PX = 0.75  # points in a CSS pixel

# Okabe and Ito's palette (2008, https://jfly.uni-koeln.de/color/), darkened until each has a contrast of
# 4.5 to 1 on white, so that a label can wear the colour of its line.
COLOURS = {
    "ink": "#1c2733",
    "soft": "#566270",
    "rule": "#c9d0d8",
    "grid": "#e6eaee",
    "paper": "#ffffff",
    "ours": "#0a5ea8",
    "second": "#b04a00",
    "third": "#00775a",
    "fourth": "#9c4177",
    "other": "#6b7683",
    "band": "#fbe3b3",
    "alarm": "#b3261e",
}
_VARIABLES = {code: f"var(--{name})" for name, code in COLOURS.items()}
_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?|-?\d+e-?\d+")
_DEFAULTS = {
    ("opacity", "1"),
    ("fill-opacity", "1"),
    ("stroke-opacity", "1"),
    ("stroke-dashoffset", "0"),
    ("stroke-width", "1"),
    ("stroke-linejoin", "miter"),
    ("font-weight", "normal"),
    ("font-weight", "400"),
    ("font-style", "normal"),
    ("text-anchor", "start"),
}
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": COLOURS["rule"],
    "axes.labelcolor": COLOURS["soft"],
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": FONT_PX * _PX,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.3,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
    "path.simplify_threshold": 0.2,
    "svg.fonttype": "none",
    "svg.hashsalt": "lazaretto",
    "text.color": COLOURS["ink"],
    "text.parse_math": False,  # names come from outside; "$" in one must stay a dollar sign
    "text.usetex": False,
    "xtick.color": COLOURS["rule"],
    "xtick.labelcolor": COLOURS["soft"],
    "xtick.labelsize": FONT_PX * _PX,
    "ytick.color": COLOURS["rule"],
    "ytick.labelcolor": COLOURS["soft"],
    "ytick.labelsize": FONT_PX * _PX,
}


def drawn(name: str, finding: str, draw: Callable[[bool], Figure]) -> tuple[Markup, Markup]:
    """The wide and the narrow SVG of a figure.

    draw: (is it the wide one?) -> Figure, called with our style set. name: unique on the page, becomes
    the prefix of ids. finding: what a screen reader says instead of the drawing.
    """
    wide, narrow = (
        _markup(_svg(draw, wide), f"{name}-{'w' if wide else 'n'}", finding) for wide in (True, False)
    )
    return wide, narrow


def sheet(width: float, height: float) -> Figure:
    """An empty figure of `width` times `height` CSS pixels."""
    figure = Figure(figsize=(width * _PX / 72, height * _PX / 72), dpi=72)
    FigureCanvasSVG(figure)
    return figure


def axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place given in CSS pixels from the upper left corner."""
    across, down = figure.get_size_inches() * 72 / _PX
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def _svg(draw: Callable[[bool], Figure], wide: bool) -> str:
    with _quiet(), mpl.rc_context():
        mpl.rcdefaults()  # a reader's own matplotlibrc must not change the report
        mpl.rcParams.update(_STYLE)  # type: ignore[arg-type]
        target = io.StringIO()
        draw(wide).savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """A script that DejaVu lacks is no reason to complain: the reader's own font draws the text."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", category=mpl.MatplotlibDeprecationWarning)
        yield


def _markup(text: str, prefix: str, finding: str) -> Markup:
    root = ElementTree.fromstring(text)  # noqa: S314 (our own drawing, its texts escaped by matplotlib)
    for parent in list(root.iter()):
        for child in list(parent):
            unpainted = child.get("style") == "fill: none"
            if unpainted or child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    _flatten(root)
    _rename(root, prefix)
    for element in root.iter():
        _restyle(element)
        _round(element)
        element.tag = element.tag.removeprefix(_SVG)
        element.text = element.text if element.tag == "text" else None
        element.tail = None
    box = root.get("viewBox", "0 0 1 1")
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-label": finding})
    # ElementTree has escaped every text and attribute; the drawing itself is ours.
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704


def _flatten(element: ElementTree.Element) -> None:
    """Drop empty definitions and groups that say nothing; matplotlib nests several around each artist."""
    children: list[ElementTree.Element] = []
    for child in list(element):
        _flatten(child)
        bare = child.tag == f"{_SVG}g" and not set(child.attrib) - {"id"}
        if bare:
            children.extend(child)
        elif len(child) or child.tag not in (f"{_SVG}g", f"{_SVG}defs"):
            children.append(child)
    element[:] = children


def _rename(root: ElementTree.Element, prefix: str) -> None:
    """Keep only ids that something refers to, under names that are unique on the page."""
    used: dict[str, str] = {}
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            link = key == _XLINK or key == "href"
            found = re.fullmatch(r"url\(#(.+)\)|#(.+)", value) if link or key == "clip-path" else None
            if found:
                old = found[1] or found[2]
                new = used.setdefault(old, f"{prefix}{len(used)}")
                del element.attrib[key]
                element.set("href" if link else key, f"#{new}" if link else f"url(#{new})")
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", used[name])


def _restyle(element: ElementTree.Element) -> None:
    """Style to attributes: colours to variables, defaults and font families dropped."""
    pairs = [part.split(":", 1) for part in element.attrib.pop("style", "").split(";") if ":" in part]
    style: dict[str, str] = {}
    for key, value in ((key.strip(), value.strip()) for key, value in pairs):
        value = _VARIABLES.get(value.lower(), value)
        if key == "font":  # "bold 9px 'DejaVu Sans'": older matplotlib writes the shorthand
            size = re.search(r"([\d.]+)px", value)
            style["font-size"] = size[1] if size else str(FONT_PX * _PX)
            if "bold" in value or "700" in value:
                style["font-weight"] = "600"
        elif key == "font-size":
            style[key] = value.removesuffix("px")
        elif key == "font-weight":
            style[key] = "600" if value in ("bold", "700") else value
        elif key != "font-family" and (key, value) not in _DEFAULTS:
            style[key] = value
    if element.tag == f"{_SVG}text" and style.get("font-size") == f"{FONT_PX * _PX:g}":
        del style["font-size"]  # the style sheet's
    coloured = {key: style.pop(key) for key in list(style) if style[key].startswith("var(")}
    if element.tag == f"{_SVG}text" and "font-size" in style:  # an attribute would yield to the style sheet's
        coloured["font-size"] = f"{style.pop('font-size')}px"
    if element.tag == f"{_SVG}text" and coloured.get("fill") == _VARIABLES[COLOURS["ink"]]:
        coloured.pop("fill")
    if coloured:  # a variable, too, works in a style only
        element.set("style", ";".join(f"{key}:{value}" for key, value in coloured.items()))
    for key, value in style.items():
        element.set(key, value)


def _round(element: ElementTree.Element) -> None:
    for key in ("d", "x", "y", "transform", "width", "height", "stroke-dasharray", "points"):
        value = element.get(key)
        if value is None:
            continue
        exact = 1 if key == "d" and len(value) > 400 else 2
        value = _NUMBER.sub(partial(_shortened, decimals=exact), value)
        if key == "d":
            value = re.sub(r"\s*([MLCQZz])\s*", r"\1", value).replace("\n", " ").strip()
        if key == "transform":
            value = re.sub(r"rotate\(-?0( [^)]*)?\)", "", value).strip()
        if value:
            element.set(key, value)
        else:
            del element.attrib[key]


def _shortened(match: re.Match[str], decimals: int) -> str:
    text = f"{float(match[0]):.{decimals}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
