"""Colours of the charts, and the one place that calls matplotlib's canvas."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.extras import MissingExtra, require
from guerdon.faults import whole_file
from guerdon.report.data import RunData

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Painter = Callable[["Axes", RunData, "Look"], None]


@dataclass(frozen=True, slots=True)
class Look:
    """Colours and size of a chart.

    The series colours are those of Okabe and Ito, "Color Universal Design" (2008),
    lightened for a dark page; every series also has its own dash or marker.
    """

    name: str
    page: str
    ink: str
    soft: str
    line: str
    grey: str
    series: dict[str, str]
    stack: tuple[str, ...]
    narrow: bool = False
    """For a telephone: the same letters on a smaller sheet."""

    @property
    def width(self) -> float:
        """Width of the sheet in inches."""
        return 4.2 if self.narrow else 7.4


_LIGHT_STACK = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_DARK_STACK = ("#4FA8E0", "#E6A93C", "#2BB58B", "#D68CB8", "#8CCBF0", "#E8763A")
LIGHT = Look(
    "light",
    page="#ffffff",
    ink="#1c2126",
    soft="#5a646e",
    line="#d9dee3",
    grey="#9aa4ad",
    series={
        "winner": "#0072B2",
        "human": "#C24F00",
        "sparse": "#A8437F",
        "best-of-n": "#00795A",
    },
    stack=(*_LIGHT_STACK, "#9aa4ad"),
)
DARK = Look(
    "dark",
    page="#14181c",
    ink="#e4e8ec",
    soft="#a0abb5",
    line="#343c44",
    grey="#6b7680",
    series={
        "winner": "#6cc0ee",
        "human": "#f0883e",
        "sparse": "#e29ac6",
        "best-of-n": "#3ecfa3",
    },
    stack=(*_DARK_STACK, "#6b7680"),
)
DASHES: dict[str, Any] = {
    "winner": "-",
    "human": (0, (6, 2)),
    "sparse": (0, (1, 1.5)),
    "best-of-n": (0, (4, 1.5, 1, 1.5)),
}
MARKERS = {"winner": "o", "human": "s", "sparse": "^", "best-of-n": "D"}
WORDS = {
    "winner": "winner",
    "human": "human-designed",
    "sparse": "sparse",
    "best-of-n": "no reflection",
}


def png(painter: Painter, data: RunData, path: Path) -> None:
    """Write a chart as a PNG for slides and papers, in the light colours."""
    with whole_file(path) as partial:
        partial.unlink(missing_ok=True)  # it may be another name of another file
        partial.write_bytes(_draw(painter, data, LIGHT, "png"))


def svg_uri(painter: Painter, data: RunData, look: Look) -> str:
    """A chart as a data URI. In an ``img`` an SVG runs nothing, whatever is in it."""
    image = _draw(painter, data, look, "svg")
    return f"data:image/svg+xml;base64,{base64.b64encode(image).decode()}"


def _drawing() -> tuple[Any, Any]:
    """Matplotlib and its figures.

    Raises:
        MissingExtra: also for what matplotlib itself needs, such as Pillow.
    """
    try:
        matplotlib = require("matplotlib", "report")
        return matplotlib, require("matplotlib.figure", "report")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"matplotlib cannot be used without {error.name}, which is not installed; "
            "both come with the extra 'report': pip install 'guerdon[report]'"
        ) from error


def _draw(painter: Painter, data: RunData, look: Look, kind: str) -> bytes:
    matplotlib, figure_module = _drawing()
    settings = {
        "font.size": 10.5,
        "text.parse_math": False,  # a dollar in a name is a dollar
        "svg.hashsalt": "guerdon",  # equal runs give equal bytes
        "axes.edgecolor": look.line,
        "axes.labelcolor": look.ink,
        "axes.facecolor": look.page,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": look.line,
        "grid.linewidth": 0.7,
        "text.color": look.ink,
        "xtick.color": look.soft,
        "ytick.color": look.soft,
        "xtick.labelcolor": look.soft,
        "ytick.labelcolor": look.soft,
    }
    buffer = io.BytesIO()
    with matplotlib.rc_context(settings):
        figure = figure_module.Figure(
            figsize=(look.width, 3.9), layout="constrained", facecolor=look.page
        )
        painter(figure.add_subplot(), data, look)
        if kind == "svg":
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        else:
            figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()
