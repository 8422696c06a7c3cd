"""Sections and tables of the report page."""

import html
from collections.abc import Iterable, Sequence
from typing import TypeAlias

Cell: TypeAlias = str | int | float


def section(title: str, body: str) -> str:
    """Puts HTML under a heading.

    Returns:
        A `section` element.
    """
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def table(
    header: Iterable[str], rows: Iterable[Sequence[Cell]], *, text_columns: Sequence[int] = ()
) -> str:
    """Builds a table.

    Args:
        header: Names of the columns; all empty for a table without header.
        rows: Cells of each row, plain text or numbers.
        text_columns: Columns that hold text, besides the first: left-aligned, may wrap.

    Returns:
        A table that scrolls sideways where the screen is narrow.
    """

    def row(cells: Iterable[Cell], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=text' if index in text_columns else ''}>"
            f"{html.escape(str(cell))}</{tag}>"
            for index, cell in enumerate(cells)
        )

    names = list(header)
    head = f"<thead><tr>{row(names, 'th')}</tr></thead>" if any(names) else ""
    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'
