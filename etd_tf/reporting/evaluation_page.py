"""The page of an evaluation: `report.html`, made of `results.json` alone."""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etd_tf.evaluation.options import PAGE_FILE
from etd_tf.evaluation.run_record import FINAL, RESULTS_FILE
from etd_tf.reporting import numbers
from etd_tf.reporting.charts import Series, line_chart
from etd_tf.reporting.sections import Cell, cards, document, section, table
from etd_tf.reporting.style import SHADED
from etd_tf.storage.atomic import write_atomically
from etd_tf.storage.json_files import read_json_object

_LARGEST_MATRIX = 25  # classes; of more only the most frequent confusions are shown
_MOST_CONFUSED = 20
_COLOURS = 6
_HIDDEN = ("data", "source", "task")  # settings that are shown elsewhere, or long

Values = Mapping[str, Any]


def write_evaluation_page(directory: Path) -> None:
    """Writes the page of a finished evaluation, where its record says that it has one.

    Args:
        directory: The evaluation's, with its `results.json`.

    Raises:
        InputError: There is no such file, or it is damaged.
    """
    values = read_json_object(directory / RESULTS_FILE)
    if PAGE_FILE in values.get("outputs", ()):
        write_atomically(directory / PAGE_FILE, evaluation_page(values))


def evaluation_page(values: Values) -> str:
    """Makes the page.

    Args:
        values: The content of `results.json`, of a fine-tuning or of a model that was scored.

    Returns:
        A complete HTML document.
    """
    settings = values["settings"]
    model = settings.get("model") or ", ".join(settings.get("models", ()))
    details = values.get("details", {})
    return document(
        f"{settings['task']}: {Path(model).name or model}",
        f"Model {model}. Data {settings.get('source') or settings.get('data_dir', '')}.",
        [
            cards(_cards(values)),
            section("Scores", _scores(values)),
            *(_classes(split, found) for split, found in details.items()),
            *(_confusion(split, found) for split, found in details.items()),
            _trainings(values.get("cells", ())),
            *(_examples(split, found) for split, found in details.items()),
            _settings(settings),
        ],
    )


def _means(values: Values) -> dict[str, dict[str, Values]]:
    """By split and metric `mean`, and where there are several seeds `std` and `values`."""
    summary = values.get("summary")
    if summary is not None:
        return dict(summary)
    return {
        split: {metric: {"mean": value} for metric, value in metrics.items()}
        for split, metrics in values.get("scores", {}).items()
    }


def _cards(values: Values) -> list[tuple[str, str, str]]:
    """The metric that ranks models, of each split."""
    found = []
    for split, metrics in _means(values).items():
        name, value = next(iter(metrics.items()))
        floor = values.get("baseline", {}).get(split, {}).get(name)
        small = "" if floor is None else f"{_shown(floor)} without looking at the example"
        found.append((_shown(value["mean"]), f"{_worded(name)}, {split}", small))
        kept = values.get("kept", {}).get(split)
        if kept is not None:
            theirs = values["teacher"][split][name]
            found.append((f"{kept:.1%}", f"of the teacher's, {split}", f"which has {theirs:.4f}"))
    return found


def _scores(values: Values) -> str:
    baseline, teacher = values.get("baseline", {}), values.get("teacher", {})
    rows: list[list[Cell]] = [
        [
            split,
            _worded(metric),
            _shown(value["mean"]),
            "" if value.get("std") is None else _shown(value["std"]),
            _shown(baseline.get(split, {}).get(metric)),
            *([_shown(teacher.get(split, {}).get(metric))] if teacher else []),
        ]
        for split, metrics in _means(values).items()
        for metric, value in metrics.items()
    ]
    theirs = ["teacher"] if teacher else []
    header = ("split", "metric", "score", "std of seeds", "baseline", *theirs)
    note = (
        "<p class=note>The baseline is the best answer that does not look at the example. Details "
        "below are the first seed's.</p>"
    )
    return table(header, rows, text_columns=(1,)) + note


def _classes(split: str, details: Values) -> str:
    classes = details.get("classes", {})
    names = ("precision", "recall", "f1")
    rows: list[list[Cell]] = [
        [name, *(_shown(one[key]) for key in names), numbers.count(one["support"])]
        for name, one in classes.items()
    ]
    header = ("", "precision", "recall", "F1", "rows")
    return section(f"By class, {split}", table(header, rows)) if rows else ""


def _confusion(split: str, details: Values) -> str:
    matrix, names = details.get("confusion", ()), details.get("labels", ())
    if not matrix:
        return ""
    if len(names) > _LARGEST_MATRIX:
        title, body = "Most often confused", _most_confused(names, matrix)
    else:
        title, body = "Confusion", _matrix(names, matrix)
    return section(f"{title}, {split}", body)


def _matrix(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """A row a right class, a column a predicted one, coloured by the share of the row."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = ""
    for name, row in zip(names, matrix, strict=True):
        total = max(sum(row), 1)
        cells = "".join(f"<td {SHADED.format(value / total)}>{value:,}</td>" for value in row)
        body += f"<tr><td>{html.escape(name)}</td>{cells}</tr>"
    return (
        f'<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        "<p class=note>Rows are the right classes, columns the predicted ones.</p>"
    )


def _most_confused(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    pairs = [
        (count, names[right], names[found])
        for right, row in enumerate(matrix)
        for found, count in enumerate(row)
        if right != found and count
    ]
    pairs.sort(key=lambda pair: -pair[0])
    rows = [(right, found, count) for count, right, found in pairs[:_MOST_CONFUSED]]
    return table(("right", "predicted", "times"), rows, text_columns=(1,))


def _trainings(cells: Sequence[Values]) -> str:
    """Learning curves, and a table of all trainings."""
    if not cells:
        return ""
    stages = dict.fromkeys(stage for cell in cells for stage in cell.get("curves", {}))
    charts = "".join(
        line_chart(
            list(_series(stage, cells)),
            title=f"Loss: {stage}",
            x_label="per cent of the training",
        )
        for stage in stages
    )
    rows: list[list[Cell]] = [
        [
            _name(cell),
            "diverged" if cell["training_loss"] is None else _shown(cell["training_loss"]),
            ", ".join(
                f"{split} {_worded(next(iter(scores)))} {_shown(next(iter(scores.values())))}"
                for split, scores in cell["scores"].items()
            ),
            numbers.seconds(cell["seconds"]),
        ]
        for cell in cells
    ]
    body = table(("training", "last loss", "scores", "time"), rows, text_columns=(2,))
    return section("Trainings", charts + body)


def _series(stage: str, cells: Sequence[Values]) -> Iterator[Series]:
    for number, cell in enumerate(cells):
        curve = [math.nan if y is None else float(y) for y in cell.get("curves", {}).get(stage, ())]
        if curve:
            x = [100 * (place + 1) / len(curve) for place in range(len(curve))]
            chosen = cell["phase"] != FINAL
            yield Series(_name(cell), x, curve, colour=number % _COLOURS, dashed=chosen)


def _name(cell: Values) -> str:
    what = "all rows" if cell["phase"] == FINAL else "nine tenths"
    return f"{what}, rate {cell['learning_rate']:g}, seed {cell['seed']}"


def _examples(split: str, details: Values) -> str:
    examples = details.get("examples", ())
    rows: list[list[Cell]] = [
        [" | ".join(one["texts"]), one["label"], one["predicted"], _shown(one["loss"])]
        for one in examples
    ]
    body = table(("text", "right", "predicted", "loss"), rows, text_columns=(1, 2))
    return section(f"Worst examples, {split}", body) if rows else ""


def _settings(settings: Values) -> str:
    rows: list[list[Cell]] = [
        [name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
        for name, value in settings.items()
        if name not in _HIDDEN
    ]
    return section("Settings", table(("", ""), rows, text_columns=(1,)))


def _worded(metric: str) -> str:
    return metric.replace("_", " ")


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
