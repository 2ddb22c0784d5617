"""The report's charts: matplotlib without its global state, in light and in dark.

Every chart is drawn by a pure function of ``RunData``; ``None`` means that nothing
was measured that it could show.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from guerdon.extras import require
from guerdon.report import measure
from guerdon.report.data import RunData
from guerdon.report.look import DASHES, MARKERS, WORDS, Look
from guerdon.report.race import Racer
from guerdon.report.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABEL_CAP = 36


# Holdout ----------------------------------------------------------------------------


def has_holdout(data: RunData) -> bool:
    """Whether any reward was measured on fresh seeds."""
    return any(row.fitness is not None for row in data.holdout)


def holdout(axes: Axes, data: RunData, look: Look) -> None:
    """One line per reward: a dot per fresh seed, the estimate, and its interval."""
    rows = [
        (row, row.fitness, _role(data, row.id))
        for row in reversed(data.holdout)
        if row.fitness is not None
    ]
    axes.figure.set_size_inches(  # type: ignore[union-attr]
        look.width, 0.9 + 0.5 * len(rows)
    )
    for height, (row, fitness, name) in enumerate(rows):
        colour = look.series[name]
        if row.per_seed:
            axes.plot(
                row.per_seed,
                [height - 0.25] * len(row.per_seed),
                linestyle="",
                marker="o",
                markersize=5,
                markerfacecolor="none",
                markeredgecolor=look.soft,
            )
        axes.plot(
            [fitness.low, fitness.high],
            [height, height],
            color=colour,
            linewidth=3,
            solid_capstyle="round",
        )
        axes.plot(
            fitness.value, height, marker=MARKERS[name], color=colour, markersize=9
        )
    axes.set_yticks(range(len(rows)), [_words(data, name) for _, _, name in rows])
    axes.tick_params(axis="y", labelcolor=look.ink, length=0)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(visible=False, axis="y")
    better = "" if look.narrow else " (higher is better)"
    axes.set_xlabel(f"True score on fresh seeds{better}")


# Shares of the terms ----------------------------------------------------------------


def has_shares(data: RunData) -> bool:
    """Whether the winner's terms were recorded during training."""
    shares = _shares(data)
    return shares is not None and len(shares.steps) > 1


def _shares(data: RunData) -> measure.Shares | None:
    if data.winner is None:
        return None
    return measure.shares(data.shown_trainings(data.winner.id))


def term_shares(axes: Axes, data: RunData, look: Look) -> None:
    """How much of the winner's reward each term is, over training."""
    shares = _shares(data)
    if shares is None:
        return
    colours = look.stack[: len(shares.names)]
    axes.stackplot(
        shares.steps,
        100 * shares.share.T,
        colors=colours,
        labels=[_label(name) for name in shares.names],
        edgecolor=look.page,
        linewidth=0.8,
    )
    axes.margins(x=0)
    axes.set_ylim(0, 100)
    axes.set_ylabel("Share of the reward's size (%)")
    _step_axis(axes)
    _legend(axes, look)


# Learning curves --------------------------------------------------------------------


def has_curves(data: RunData) -> bool:
    """Whether any training recorded its true score over time."""
    return bool(data.curves.all)


def learning_curves(axes: Axes, data: RunData, look: Look) -> None:
    """True score over training: all candidates grey, winner and references not."""
    for i, line in enumerate(data.curves.others):
        axes.fill_between(
            line.steps, line.low, line.high, color=look.grey, alpha=0.10, linewidth=0
        )
        axes.plot(
            line.steps,
            line.mean,
            color=look.grey,
            linewidth=1.0,
            alpha=0.75,
            marker=_dot(line),
            markersize=3,
            label=None if i else "other candidates",
        )
    for name, line in data.curves.named.items():
        colour = look.series[name]
        seeds = f"{line.seeds} seed{'s' if line.seeds != 1 else ''}"
        axes.fill_between(
            line.steps, line.low, line.high, color=colour, alpha=0.18, linewidth=0
        )
        axes.plot(
            line.steps,
            line.mean,
            color=colour,
            linestyle=DASHES[name],
            linewidth=2.2,
            marker=_dot(line),
            label=f"{_words(data, name)} ({seeds})",
        )
    axes.set_ylabel("True score per episode")
    axes.margins(x=0)
    # From the start of training, also where one point would set the whole axis.
    last = axes.dataLim.x1
    if last > 0:
        axes.set_xlim(0, 1.03 * last if last == axes.dataLim.x0 else last)
    _step_axis(axes)
    _legend(axes, look, reverse=True)


# True score against the designed reward ---------------------------------------------


def scatter_points(data: RunData) -> list[tuple[str, str, float, float]]:
    """``(id, role, designed reward, true score)`` of everything that has both."""
    measured = [(c.id, c.fitness, c.proxy) for c in data.candidates]
    for name in ("sparse", "human"):
        trainings = data.shown_trainings(name)
        fitness = measure.over_seeds(trainings, "fitness")
        measured.append((name, fitness, measure.over_seeds(trainings, "proxy")))
    return [
        (name, _role(data, name, other="other"), proxy.value, fitness.value)
        for name, fitness, proxy in measured
        if fitness is not None and proxy is not None
    ]


def has_scatter(data: RunData) -> bool:
    """Whether there are two candidates or more to compare."""
    return len(scatter_points(data)) > 1


def true_against_designed(axes: Axes, data: RunData, look: Look) -> None:
    """What the agent was paid for, against what we wanted of it."""
    points = scatter_points(data)
    for role in ("other", *MARKERS):
        chosen = [point for point in points if point[1] == role]
        if not chosen:
            continue
        axes.plot(
            [point[2] for point in chosen],
            [point[3] for point in chosen],
            linestyle="",
            marker=MARKERS.get(role, "o"),
            markersize=10 if role == "winner" else 7,
            color=look.series.get(role, look.grey),
            markeredgecolor=look.page,
            label=_words(data, role),
        )
    largest = max(abs(point[2]) for point in points)
    if largest > 50 * max(1.0, sorted(abs(p[2]) for p in points)[len(points) // 2]):
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set_xticks(_decades(min(p[2] for p in points), max(p[2] for p in points)))
        axes.minorticks_off()
        # The default labels are mathematical text, which is switched off here.
        axes.xaxis.set_major_formatter(lambda value, place: f"{value:,.0f}")
    axes.set_xlabel("Designed reward per episode, end of training")
    axes.set_ylabel("True score per episode")
    axes.margins(0.08)
    _legend(axes, look)
    _name_points(axes, points, look)


def _decades(low: float, high: float) -> list[float]:
    """At most nine powers of ten with their signs, and 0, that span the values."""
    top = max(1, math.ceil(math.log10(max(abs(low), abs(high), 10.0))))
    powers = range(1, top + 1, max(1, math.ceil(top / 4)))
    ticks = [sign * 10.0**power for power in powers for sign in (-1, 1)]
    return sorted({0.0, *(t for t in ticks if 10 * low <= t <= 10 * high)})


def _name_points(
    axes: Axes, points: list[tuple[str, str, float, float]], look: Look
) -> None:
    """Write ids beside points where there is room, the best true scores first."""
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    taken = [tuple(axes.transData.transform((p[2], p[3]))) for p in points]
    boxes = [(x - 6.0, y - 6.0, x + 6.0, y + 6.0) for x, y in taken]
    order = sorted(range(len(points)), key=lambda index: -points[index][3])
    scale = axes.figure.dpi / 72
    for index in order:
        text = _label(points[index][0], 14)
        width, height = 5.2 * len(text) * scale, 10.0 * scale
        x, y = taken[index]
        for side, dy in (
            ("left", 0.0),
            ("right", 0.0),
            ("left", 12.0),
            ("left", -12.0),
        ):
            left = x + 8 if side == "left" else x - 8 - width
            box = (left, y + dy - height / 2, left + width, y + dy + height / 2)
            inside = axes.bbox.x0 < box[0] and box[2] < axes.bbox.x1
            others = boxes[:index] + boxes[index + 1 :]
            if inside and not any(_overlap(box, other) for other in others):
                axes.annotate(
                    text,
                    (points[index][2], points[index][3]),
                    xytext=((8 if side == "left" else -8) / scale, dy / scale),
                    textcoords="offset points",
                    ha="left" if side == "left" else "right",
                    va="center",
                    fontsize=8,
                    color=look.soft,
                )
                boxes.append(box)
                break


_PLACES = (("left", 0.0), ("right", 0.0), ("left", 12.0), ("left", -12.0))


def _overlap(
    a: tuple[float, float, float, float], b: tuple[float, float, float, float]
) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


# The race ---------------------------------------------------------------------------


def has_race(data: RunData) -> bool:
    """Whether anybody went on from a rung."""
    return any(len(_points(racer)) > 1 for racer in _racers(data))


def race(axes: Axes, data: RunData, look: Look) -> None:
    """True score from rung to rung, the winner on top."""
    winner = data.winner.id if data.winner else None
    for racer in sorted(_racers(data), key=lambda racer: racer.id == winner):
        points, own = _points(racer), racer.id == winner
        colour = look.series["winner"] if own else look.grey
        for before, after in itertools.pairwise(points):
            axes.plot(
                [before[0], after[0]],
                [before[1], after[1]],
                color=colour,
                linewidth=2.2 if own else 1.2,
                linestyle="--" if after[2] else "-",
            )
        shapes = [MARKERS["winner"] if own else "o"] * len(points)
        if racer.state == "dropped":
            shapes[-1:] = "x"
        for (steps, score, _), shape in zip(points, shapes, strict=True):
            size = 9 if own else 5
            axes.plot(steps, score, marker=shape, color=colour, markersize=size)
    axes.set_ylabel("True score per episode")
    axes.set_xlim(left=0)
    _step_axis(axes)


def _racers(data: RunData) -> list[Racer]:
    return [racer for known in data.races for racer in known.racers.values()]


def _points(racer: Racer) -> list[tuple[int, float, bool]]:
    """Steps, score and whether it came there by chance, of every rung."""
    return [(m.steps, m.score, m.chance) for m in racer.marks if m.score is not None]


# Where the time went ----------------------------------------------------------------


def has_profile(data: RunData) -> bool:
    """Whether any part of the run's time was measured."""
    return data.profile.total > 0


def profile(axes: Axes, data: RunData, look: Look) -> None:
    """All time of the workers as one bar; what was waiting is empty or hatched."""
    parts, total = data.profile.known, data.profile.total
    columns = 2 if look.narrow else 4
    axes.figure.set_size_inches(  # type: ignore[union-attr]
        look.width, 1.5 + 0.25 * math.ceil(len(parts) / columns)
    )
    left = 0.0
    for name, seconds in parts.items():
        width = 100 * seconds / total
        short, colour, hatch = _TIMES[name]
        axes.barh(
            0,
            width,
            left=left,
            height=1.0,
            color=look.page if colour is None else look.stack[colour],
            edgecolor=look.soft if colour is None else look.page,
            hatch=hatch,
            linewidth=0.8,
            label=short,
        )
        left += width
    axes.set_xlim(0, 100)
    axes.set_yticks([])
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("Share of the workers' time (%)")
    _legend(axes, look)


_TIMES: dict[str, tuple[str, int | None, str]] = {
    "acting": ("acting", 0, ""),
    "environment": ("environments", 2, ""),
    "rewards": ("rewards", 1, ""),
    "update": ("update", 3, ""),
    "training": ("training", 4, ""),
    "evaluation": ("evaluation", 5, ""),
    "other": ("other work", 6, ""),
    "model": ("wait for model", None, "////"),
    "waiting": ("other waiting", None, ""),
}
"""By part: its short name, its colour and its hatching."""


# Shared -----------------------------------------------------------------------------


def _role(data: RunData, name: str, other: str = "best-of-n") -> str:
    if data.winner is not None and name == data.winner.id:
        return "winner"
    return name if name in MARKERS else other


def _words(data: RunData, role: str) -> str:
    if role == "winner" and not data.finished:
        return "best so far"
    return WORDS.get(role, "other candidates")


def _dot(line: measure.Curve) -> str:
    """A marker for a curve that is too short to be seen as a line."""
    return "o" if len(line.steps) < 3 else ""


def _step_axis(axes: Axes) -> None:
    ticker = require("matplotlib.ticker", "report")
    axes.set_xlabel("Environment steps of training")
    axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5))


def _legend(axes: Axes, look: Look, reverse: bool = False) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    characters = 46 if look.narrow else 96
    columns = max(1, min(4, characters // (8 + max(map(len, labels)))))
    axes.legend(
        handles[::-1] if reverse else handles,
        labels[::-1] if reverse else labels,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=columns,
        frameon=False,
        labelcolor=look.ink,
        fontsize=9,
    )


def _label(text: str, cap: int = _LABEL_CAP) -> str:
    """A name for a chart: short, one line, and only glyphs that the font has."""
    short = " ".join(visible(text, cap).replace("…", "...").split())
    drawable = "".join(c if c.isprintable() and ord(c) < 256 else "?" for c in short)
    return f" {drawable}" if drawable.startswith("_") else drawable or "?"
