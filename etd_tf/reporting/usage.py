"""How to load the student, in the report's words."""

import html

from etd_tf.export import FORMATS
from etd_tf.reporting import numbers
from etd_tf.reporting.markup import Cell, section, table
from etd_tf.reporting.report import RunReport


def usage(report: RunReport) -> str:
    """Builds the section with code that loads each export, and a table of them.

    Returns:
        A `section` element; nothing where nothing was exported.
    """
    if not report.exports:
        return ""
    rows: list[list[Cell]] = [
        [
            export.format,
            export.path,
            numbers.size(export.bytes_on_disk),
            "" if export.max_difference is None else numbers.significant(export.max_difference, 2),
            export.note,
        ]
        for export in report.exports
    ]
    header = ("Format", "Path", "Size", "Largest difference", "Note")
    known = [export for export in report.exports if export.format in FORMATS]
    code = "\n\n".join(filter(None, (FORMATS[one.format]().usage(one) for one in known)))
    return section(
        "Use the student",
        f"<pre><code>{html.escape(code)}</code></pre>" + table(header, rows, text_columns=(1, 4)),
    )
