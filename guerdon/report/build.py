"""Puts the page together: one HTML file, its numbers as JSON, its charts as PNG."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from guerdon import __version__
from guerdon.extras import MissingExtra
from guerdon.journal import canonical
from guerdon.report import figures, headline, measure, race, sections
from guerdon.report.candidate import Candidate
from guerdon.report.data import RunData
from guerdon.report.folder import require_no_links
from guerdon.report.look import DARK, LIGHT, Painter, png, svg_uri
from guerdon.report.text import escape, number

HTML_NAME = "report.html"
JSON_NAME = "report.json"
FIGURES = "figures"

MAX_IMAGE_BYTES = 12_000_000
"""A rendered episode larger than this stays a file beside the page."""

CHARTS: dict[str, tuple[Callable[[RunData], bool], Painter]] = {
    "holdout": (figures.has_holdout, figures.holdout),
    "term_shares": (figures.has_shares, figures.term_shares),
    "learning_curves": (figures.has_curves, figures.learning_curves),
    "true_against_designed": (figures.has_scatter, figures.true_against_designed),
    "race": (figures.has_race, figures.race),
    "time": (figures.has_profile, figures.profile),
}
_EPISODE_FILES = {"winner.gif": b"GIF8", "winner.png": b"\x89PNG"}

# Nothing on the page may run or be fetched, even if something of it were not ours.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(folder: str | Path) -> Path:
    """Write ``report.html``, ``report.json`` and ``figures/*.png`` into a run folder.

    A run that has not finished gets a report too; it says so. Without the extra
    ``report`` the page has its tables and says how to get its charts.

    Args:
        folder: a run folder with a journal, which is only read.

    Returns:
        The path of the page.

    Raises:
        JournalError: when the folder has no sound journal, or holds links; nothing is
            written then.
    """
    folder = Path(folder)
    require_no_links(folder)
    data = RunData(folder)
    charts = _Charts(data, folder / FIGURES)
    page = _page(data, charts, folder)
    value = report_json(data) | {"no_charts": charts.missing}
    _write(folder / JSON_NAME, json.dumps(value, indent=1) + "\n")
    _write(folder / HTML_NAME, page)
    return folder / HTML_NAME


class _Charts:
    """Draws each chart once: a PNG on the disk, and two looks inline."""

    def __init__(self, data: RunData, folder: Path) -> None:
        self._data = data
        self._folder = folder
        self.missing: str | None = None

    def __call__(self, name: str, alternative: str, caption: str) -> str:
        wanted, painter = CHARTS[name]
        if self.missing is not None or not wanted(self._data):
            return ""
        try:
            return self._draw(name, painter, alternative, caption)
        except MissingExtra as error:
            self.missing = str(error)
            return ""

    def _draw(self, name: str, paint: Painter, alternative: str, caption: str) -> str:
        light, dark = (svg_uri(paint, self._data, look) for look in (LIGHT, DARK))
        narrow = [
            svg_uri(paint, self._data, dataclasses.replace(look, narrow=True))
            for look in (LIGHT, DARK)
        ]
        self._folder.mkdir(exist_ok=True)
        png(paint, self._data, self._folder / f"{name}.png")
        small, night = "(max-width: 40rem)", "(prefers-color-scheme: dark)"
        sources = (
            (f"screen and {small} and {night}", narrow[1]),
            (f"screen and {small}", narrow[0]),
            (f"screen and {night}", dark),
        )
        choices = "".join(
            f'<source media="{media}" srcset="{uri}">' for media, uri in sources
        )
        return (
            f'<figure class="chart"><picture>{choices}'
            f'<img src="{light}" alt="{escape(alternative)}"></picture>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )


def _page(data: RunData, charts: _Charts, folder: Path) -> str:
    def episode(data: RunData, chart: sections.Chart) -> str:
        return _episode(data, folder)

    best = "The winning reward" if data.finished else "The best reward so far"
    contents: list[tuple[str, str, Callable[[RunData, sections.Chart], str]]] = [
        ("holdout", "Fresh seeds", sections.holdout),
        ("winner", best, sections.winner),
        ("episode", "An episode", episode),
        ("curves", "Learning curves", sections.curves),
        ("scatter", "True score and designed reward", sections.scatter),
        *([("race", "The race", _race)] if data.races else []),
        ("makers", "Who found what", sections.makers),
        ("failures", "What failed", sections.failures),
        ("genealogy", "Where it comes from", sections.genealogy),
        ("cost", "Cost", sections.cost),
        ("time", "Where the time went", sections.times),
        ("again", "Do it again", sections.again),
        ("everybody", "All candidates", sections.everybody),
    ]
    body = "\n".join(
        f'<section id="{name}"><h2>{title}</h2>\n{make(data, charts)}</section>'
        for name, title, make in contents
    )
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title, _ in contents)
    notice = (
        f'<p class="banner">No charts: {escape(charts.missing)}</p>'
        if charts.missing
        else ""
    )
    style = resources.files("guerdon.report").joinpath("style.css").read_text("utf-8")
    written = time.strftime("%Y-%m-%d %H:%M", time.localtime(data.written))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(data.task, 80)}: reward search</title>
<style>
{style}</style>
</head>
<body>
<header>
{headline.top(data)}
{notice}<nav aria-label="Contents">{links}</nav>
</header>
<main>
{body}
</main>
<footer>Written by Guerdon {__version__} on {written}. The numbers are in
{JSON_NAME}, the charts in {FIGURES}/.</footer>
</body>
</html>
"""


def _race(data: RunData, chart: sections.Chart) -> str:
    """Who was trained how far, and a chart of it."""
    return race.section(data.races) + chart(
        "race",
        "True score of every candidate on the rungs that it reached",
        "A line per candidate of all rounds, the winner's in colour. A cross is where "
        "one was dropped; dashes lead to where one came by chance.",
    )


def _episode(data: RunData, folder: Path) -> str:
    """The rendered episode of the winner, inline; the file's bytes say what it is."""
    for name, magic in _EPISODE_FILES.items():
        path = folder / FIGURES / name
        if not path.is_file() or path.stat().st_size > MAX_IMAGE_BYTES:
            continue
        content = path.read_bytes()
        if not content.startswith(magic):
            continue
        uri = (
            f"data:image/{path.suffix[1:]};base64,{base64.b64encode(content).decode()}"
        )
        return (
            '<figure class="episode">'
            f'<img src="{uri}" alt="One episode of the agent trained with the winner">'
            f"<figcaption>{escape(_episode_words(data))}</figcaption></figure>"
        )
    return '<p class="missing">No episode of the winner has been rendered.</p>'


def _episode_words(data: RunData) -> str:
    words = "One episode of the middling agent trained with the winning reward"
    score = measure.as_number(measure.dig(data.episode, "fitness"))
    length = measure.as_number(measure.dig(data.episode, "length"))
    if score is not None:
        words += f", true score {number(score)}"
    if length is not None:
        words += f", {length:.0f} steps"
    return f"{words}."


def report_json(data: RunData) -> dict[str, Any]:
    """Everything that the page shows, as plain JSON without NaN or infinity."""
    spent = data.cost
    value = {
        "guerdon": __version__,
        "finished": data.finished,
        "headline": headline.headline(data),
        "task": data.task,
        "intent": data.intent,
        "llm": data.llm,
        "winner": data.winner.id if data.winner else None,
        "holdout": [
            {
                "id": row.id,
                "label": row.label,
                "fitness": _estimate(row.fitness),
                "success": _estimate(row.success),
                "per_seed": list(row.per_seed),
                "of": row.of,
            }
            for row in data.holdout
        ],
        "human_normalised": _estimate(data.human_normalised),
        "candidates": [
            _candidate(candidate) | {"lineage": data.lineage(candidate)}
            for candidate in data.candidates
        ],
        "races": [known.as_json() for known in data.races],
        "by_origin": list(data.origins),
        "by_operator": list(data.operators),
        "failures": {found.kind: found.count for found in data.failures},
        "genealogy": [
            [distance, found if isinstance(found, str) else found.id]
            for distance, found in data.genealogy
        ],
        "cost": spent,
        "profile": data.profile.as_json(),
        "command": data.command,
        "config": data.public_config,
        "versions": data.versions,
    }
    plain: dict[str, Any] = json.loads(canonical(value))
    return plain


def _candidate(candidate: Candidate) -> dict[str, Any]:
    record = candidate.record
    line = measure.curve(candidate.trainings, "fitness")
    return {
        "id": record.id,
        "round": record.round,
        "operator": record.operator,
        "origin": candidate.origin,
        "parents": list(record.parents),
        "state": candidate.state,
        "failure": candidate.failure,
        "fitness": _estimate(candidate.fitness),
        "success": _estimate(candidate.success),
        "designed_reward": _estimate(candidate.proxy),
        "source": record.source,
        "curve": None if line is None else line._asdict(),
    }


def _estimate(estimate: Any) -> dict[str, Any] | None:
    return None if estimate is None else estimate._asdict()


def _write(path: Path, text: str) -> None:
    """Replace a file whole: a reader sees the old one or the new one."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # it may be another name of another file
    new.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(new, path)
