"""Draw charts as inline SVG with matplotlib, without scripts, fonts or images from other files.

The SVG that matplotlib writes is changed in two ways. Colours become CSS variables, so that a chart follows the
reader's light or dark scheme. And matplotlib draws placeholders instead of texts of the data, because it takes ``$``
for formulas and warns of letters that its own font lacks. The texts are put into the finished tree, where the XML
writer escapes them and the browser shows them in the reader's font.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from agentmodel.exceptions import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Series", "bars", "days", "scores", "shortened"]

_COLOURS: Final = {"ink": "#010101", "quiet": "#020202", "line": "#030303", "one": "#040404", "two": "#050505"}
"""The page's colour variables, each with the colour that stands for it while matplotlib draws."""

_WIDTH: Final = 6.6  # inches of 72 points; the page scales the chart
_ROW: Final = 0.25
_NAME_CELLS: Final = 32
_CELL: Final = 5.0  # points that half the width of a Hangul syllable takes at 9 points

_svg_settings = Lock()  # matplotlib's settings for SVG are shared by the whole process


@dataclass(frozen=True)
class Series:
    """One series of a chart.

    Attributes:
        name: Its name in the tooltips.
        colour: Its colour variable, ``one`` or ``two``.
        values: A number for each row.
    """

    name: str
    colour: str
    values: Sequence[float]


def shortened(text: str, cells: int = _NAME_CELLS) -> str:
    """Return a text cut to a number of cells, to fit beside a chart; a Hangul syllable takes two cells.

    >>> shortened("예약 에이전트", 9)
    '예약 에…'
    """
    text = _clean(text)
    if _cells(text) <= cells:
        return text
    kept = ""
    for char in text:
        if _cells(kept + char) > cells - 1:
            break
        kept += char
    return kept.rstrip() + "…"


def bars(names: Sequence[str], series: Sequence[Series], *, label: str) -> ET.Element:
    """Draw a horizontal bar for each name, its series one after another.

    Args:
        names: Names of the rows, best first.
        series: The parts of each bar.
        label: A description of the chart for screen readers.
    """
    figure = _figure(len(names))
    integers = all(float(value).is_integer() for each in series for value in each.values)
    axes = _rows(figure, len(names), _left(names), integers=integers)
    starts = [0.0] * len(names)
    for place, each in enumerate(series):
        drawn = axes.barh(range(len(names)), each.values, left=starts, height=0.62, color=_COLOURS[each.colour])
        for row, bar in enumerate(drawn):
            bar.set_gid(f"hint-{place}-{row}")
        starts = [start + value for start, value in zip(starts, each.values, strict=True)]
    axes.set_xlim(0, max([*starts, 1e-9]) * 1.03)
    hints = {
        f"hint-{place}-{row}": f"{_clean(name)}: {each.values[row]:,.6g} {each.name}"
        for place, each in enumerate(series)
        for row, name in enumerate(names)
    }
    return _svg(figure, names, hints, label)


def scores(
    names: Sequence[str], values: Sequence[float], means: Sequence[float], bounds: Sequence[tuple[float, float]],
    *, label: str,
) -> ET.Element:  # fmt: skip
    """Draw a bar for each name and, beside it on a scale from 0 to 1, a mean with its interval."""
    figure = _figure(len(names))
    left = _left(names)
    axes = _rows(figure, len(names), left, right=0.62)
    right_axes = _rows(figure, len(names), 0.68)
    right_axes.set_yticks([])
    right_axes.set_xlim(-0.02, 1.02)
    for row, bar in enumerate(axes.barh(range(len(names)), values, height=0.62, color=_COLOURS["one"])):
        bar.set_gid(f"hint-0-{row}")
    axes.set_xlim(0, max([*values, 1e-9]) * 1.03)
    for row, (low, high) in enumerate(bounds):
        (line,) = right_axes.plot([low, high], [row, row], color=_COLOURS["two"], linewidth=2.2, solid_capstyle="butt")
        line.set_gid(f"hint-1-{row}")
        (dot,) = right_axes.plot([means[row]], [row], color=_COLOURS["two"], marker="o", markersize=6, linestyle="none")
        dot.set_gid(f"hint-2-{row}")
    hints = {f"hint-0-{row}": f"{_clean(name)}: score {values[row]:,.2f}" for row, name in enumerate(names)}
    for row, (name, (low, high)) in enumerate(zip(names, bounds, strict=True)):
        text = f"{_clean(name)}: {means[row]:.2f} ({low:.2f} to {high:.2f})"
        hints |= {f"hint-1-{row}": text, f"hint-2-{row}": text}
    return _svg(figure, names, hints, label)


def days(first: date, series: Sequence[Series], *, label: str) -> ET.Element:
    """Draw a column for each day from ``first`` on, its series stacked."""
    figure = _figure(9)
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_axes((0.075, 0.14, 0.9, 0.82))
    count = len(series[0].values)
    base = [0.0] * count
    for each in series:
        top = [low + value for low, value in zip(base, each.values, strict=True)]
        axes.stairs(top, list(range(count + 1)), baseline=base, fill=True, color=_COLOURS[each.colour])
        base = top
    axes.set_xlim(0, count)
    axes.set_ylim(0, max([*base, 1.0]) * 1.05)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    step = -(-count // 7)
    shown = range(0, count, step)
    axes.set_xticks([number + 0.5 for number in shown], [(first + timedelta(number)).isoformat() for number in shown])
    _styled(axes, across=True)
    axes.tick_params(axis="x", pad=7)
    return _svg(figure, (), {}, label)


# -- drawing ----------------------------------------------------------------------------------------------------------


def _figure(rows: int) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("report", "the HTML report", "matplotlib") from None
    return Figure(figsize=(_WIDTH, max(rows, 2) * _ROW + 0.4))


def _rows(figure: Figure, count: int, left: float, *, right: float = 0.98, integers: bool = False) -> Axes:
    from matplotlib.ticker import MaxNLocator

    height = float(figure.get_size_inches()[1])
    axes = figure.add_axes((left, 0.32 / height, right - left, 1 - 0.4 / height))
    axes.set_yticks(range(count), [f"name-{row}" for row in range(count)])
    axes.set_ylim(max(count, 2) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=integers))
    _styled(axes, across=False)
    return axes


def _styled(axes: Axes, *, across: bool) -> None:
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.grid(axis="y" if across else "x", color=_COLOURS["line"], linewidth=0.8)
    axes.tick_params(length=0, labelsize=9, labelcolor=_COLOURS["quiet"])
    axes.tick_params(axis="x" if across else "y", labelcolor=_COLOURS["ink"])


def _left(names: Sequence[str]) -> float:
    widest = max([_cells(shortened(name)) for name in names], default=0)
    return (max(widest, 4) * _CELL + 8) / (_WIDTH * 72)


def _cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))


# -- from matplotlib's SVG to a part of the page ----------------------------------------------------------------------


def _svg(figure: Figure, names: Sequence[str], hints: Mapping[str, str], label: str) -> ET.Element:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure.patch.set_visible(False)
    file = io.StringIO()
    with _svg_settings, rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        canvas: Any = FigureCanvasSVG(figure)  # typed in part only
        canvas.print_svg(file, metadata={"Date": None})
    written = file.getvalue()
    root = ET.fromstring(written)  # noqa: S314 -- matplotlib wrote it a line above, without any text of the data
    svg = ET.Element("svg", {"viewBox": root.get("viewBox", ""), "role": "img", "aria-label": _clean(label)})
    svg.extend(root.findall("{*}g"))  # without metadata and style sheet, which would apply to the whole page
    used = set(re.findall(r'href="#([^"]+)"', written))
    for element in svg.iter():
        _rewrite(element, names, hints, used)
    return svg


def _rewrite(element: ET.Element, names: Sequence[str], hints: Mapping[str, str], used: set[str]) -> None:
    element.tag = element.tag.rpartition("}")[2]  # SVG inside HTML needs no namespace
    element.tail = None
    element.attrib.pop("clip-path", None)  # nothing is drawn outside the clip path
    href = element.attrib.pop("{http://www.w3.org/1999/xlink}href", None)
    if href is not None:
        element.set("href", href)
    if "style" in element.attrib:
        element.set("style", _style(element.attrib["style"]))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    own = element.attrib.pop("id", "")
    if own in used:
        element.set("id", own)
    text = (element.text or "").strip()
    element.text = shortened(names[int(text.removeprefix("name-"))]) if text.startswith("name-") else text
    if own in hints:
        title = ET.Element("title")
        title.text = hints[own]
        element.insert(0, title)


def _style(style: str) -> str:
    for name, colour in _COLOURS.items():
        style = style.replace(colour, f"var(--{name})")
    return re.sub(r"font: ([0-9.]+px) [^;]*(;|$)", r"font-size: \1;", style)
