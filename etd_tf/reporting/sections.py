"""Parts of report pages: the frame, sections and tables, large numbers, machine, command."""

import html
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from etd_tf.reporting import numbers
from etd_tf.reporting.report import Machine
from etd_tf.reporting.style import STYLE

Cell: TypeAlias = str | int | float

_WIDTH = 100  # characters of a command that stay on one line


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


def document(title: str, subtitle: str, sections: Iterable[str]) -> str:
    """Puts sections into a page; empty ones are left out.

    Returns:
        A complete HTML document without scripts and external resources.
    """
    name = html.escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{name}</h1><p>{html.escape(subtitle)}</p></header>\n"
        + "\n".join(filter(None, sections))
        + "\n</main>\n</body>\n</html>\n"
    )


def cards(items: Sequence[tuple[str, str, str]]) -> str:
    """Shows a few large numbers.

    Args:
        items: Number, what it is, where it comes from; plain text.

    Returns:
        A `section` element.
    """
    body = "".join(
        f'<div class="card"><b>{html.escape(big)}</b><span>{html.escape(what)}</span>'
        f"<small>{html.escape(small)}</small></div>"
        for big, what, small in items
    )
    return f'<section class="cards">{body}</section>'


def measured_on(machine: Machine, data: Mapping[str, str | int | float]) -> str:
    """Tells machine, software and data.

    Returns:
        A `section` element.
    """
    memory = numbers.size(machine.memory_bytes) if machine.memory_bytes else "unknown"
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    rows: list[list[Cell]] = [
        ["Processor", f"{machine.cpu}, {machine.cores} cores"],
        ["Accelerators", ", ".join(machine.accelerators) or "none"],
        ["Memory", memory],
        ["Software", f"{machine.platform}; {versions}"],
    ]
    rows += [
        [name, value if isinstance(value, str) else numbers.count(value)]
        for name, value in data.items()
    ]
    return section("Measured on", table(("", ""), rows, text_columns=(1,)))


def run_again(command: str, flags: Mapping[str, str]) -> str:
    """Shows the command and, folded, every flag.

    Returns:
        A `section` element.
    """
    lines = "\n".join(f"--{name}={value}" for name, value in flags.items())
    body = f"<pre><code>{html.escape(_folded(command))}</code></pre>"
    if lines:
        body += (
            f"<details><summary>All flags</summary><pre><code>{html.escape(lines)}</code></pre>"
            "</details>"
        )
    return section("Run it again", body)


def _folded(command: str) -> str:
    """A command of the shell, with a flag a line where it is long."""
    if len(command) <= _WIDTH:
        return command
    try:
        first, *words = map(shlex.quote, shlex.split(command))
    except ValueError:  # no words, or no command of the shell
        return command
    return first + "".join((" \\\n  " if word.startswith("--") else " ") + word for word in words)
