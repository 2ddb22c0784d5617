"""Small pieces of HTML; text goes in as text and is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from guerdon.report.text import NAME_CAP, NOT_MEASURED, escape, missing


def table(head: Iterable[str], rows: Iterable[str]) -> str:
    """A table that scrolls sideways on a small screen; ``rows`` are HTML."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return (
        f'<div class="scroll"><table><thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def facts(values: Mapping[str, object]) -> str:
    """Names and values from anywhere, one row each."""
    rows = [
        row(
            f'<th scope="row">{escape(name, NAME_CAP)}</th>',
            f"<td>{missing() if value in (None, NOT_MEASURED) else escape(value)}</td>",
        )
        for name, value in values.items()
    ]
    body = "".join(rows) or row(f"<td>{missing()}</td>")
    return (
        f'<div class="scroll"><table class="facts"><tbody>{body}</tbody></table></div>'
    )


def row(*cells: str) -> str:
    """A row of cells, which are HTML."""
    return f"<tr>{''.join(cells)}</tr>"


def cell(text: str) -> str:
    """A number's cell; ``text`` is ours."""
    return f'<td class="n">{missing() if text == NOT_MEASURED else escape(text)}</td>'


def ident(name: str) -> str:
    """A candidate's id."""
    return f'<code class="id">{escape(name, NAME_CAP)}</code>'


def details(title: str, body: str) -> str:
    """A folded part; both arguments are HTML."""
    return f"<details><summary>{title}</summary>{body}</details>"


def nothing(text: str) -> str:
    """A sentence in the place of something that is not there."""
    return f'<p class="missing">{escape(text)}</p>'
