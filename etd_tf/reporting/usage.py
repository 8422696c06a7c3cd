"""How to load the student, in the report's words."""

import html

from etd_tf.export import Export
from etd_tf.reporting import numbers
from etd_tf.reporting.markup import Cell, section, table
from etd_tf.reporting.report import RunReport

_LOAD = {
    "huggingface": (
        "# etd_tf, or stock Hugging Face Transformers\n"
        'student = etd_tf.load_checkpoint("{path}")\n'
        'student = transformers.AutoModel.from_pretrained("{path}")'
    ),
    "saved_model": (
        "# TensorFlow and TensorFlow Serving; token ids go in, int32 [batch, length]\n"
        "import tensorflow as tf\n"
        'serve = tf.saved_model.load("{path}").signatures["serve_ids"]\n'
        "outputs = serve(token_ids=ids, segment_ids=segments, padding_mask=mask)"
    ),
    "keras_hub": '# KerasHub\nstudent = keras_hub.models.BertBackbone.from_preset("{path}")',
    "litert": (
        "# LiteRT, on phones and small machines\n"
        'student = tf.lite.Interpreter("{path}").get_signature_runner()'
    ),
}
_LOAD_FOR_TEXT = {
    "saved_model": (
        "# TensorFlow and TensorFlow Serving; text goes in\n"
        "import tensorflow as tf, tensorflow_text\n"
        'serve = tf.saved_model.load("{path}").signatures["serving_default"]\n'
        'outputs = serve(text=tf.constant(["Some text."]))'
    ),
}


def _load(export: Export) -> str:
    templates = _LOAD | _LOAD_FOR_TEXT if export.takes_text else _LOAD
    return templates.get(export.format, "").format(path=export.path)


def usage(report: RunReport) -> str:
    """Builds the section with code that loads each export, and a table of them.

    Args:
        report: The report.

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
    code = "\n\n".join(filter(None, map(_load, report.exports)))
    return section(
        "Use the student",
        f"<pre><code>{html.escape(code)}</code></pre>" + table(header, rows, text_columns=(1, 4)),
    )
