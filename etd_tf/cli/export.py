"""`bin/etd_export`: a model in the forms that other programs take."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etd_tf.cli.app import Command
from etd_tf.cli.flags import FlagSet, model_source
from etd_tf.errors import InputError
from etd_tf.export import FORMATS, Export
from etd_tf.settings import MISSING, Settings, options_of, setting, summaries

SUMMARY = """writes a model in other formats; each one is loaded back and compared.

Example:
  etd_export --model=out --format=saved_model,litert --output_dir=exported"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportFlags(Settings):
    """What is exported, in which formats."""

    title = "Export"

    model: str = setting(
        MISSING,
        "A directory made by etd_distill or etd_extract, or anything that is a teacher there.",
        required=True,
        group="Model",
    )
    format: tuple[str, ...] = setting(
        ("saved_model",),
        lambda: summaries(FORMATS),
        choices=lambda: FORMATS,
        some=True,
        distinct=True,
    )
    options: Mapping[str, Mapping[str, Any]] = options_of(lambda: FORMATS, chosen="format")
    output_dir: Path = setting(MISSING, "Each format becomes a directory in here.", required=True)
    overwrite: bool = setting(False, "Replace what is there.")

    def targets(self) -> dict[str, Path]:
        """The directory of each format."""
        return {form: self.output_dir / form for form in self.format}


def run(flag_set: FlagSet) -> None:
    """Exports the model that the flags name and prints what was written."""
    flags = flag_set.read(ExportFlags)
    _check_nothing_lost(flags)
    forms = {name: FORMATS[name](**flags.options[name]) for name in flags.format}
    from etd_tf.checkpoints import load_checkpoint

    checkpoint = load_checkpoint(model_source(flags.model))
    for name, target in flags.targets().items():
        export = forms[name].write(checkpoint, target, overwrite=flags.overwrite)
        sys.stdout.write(_describe(export))


def _check_nothing_lost(flags: ExportFlags) -> None:
    """Refuses to replace the model itself, and what is no earlier export."""
    targets = flags.targets()
    taken = [str(path) for path in targets.values() if path.exists()]
    if taken and not flags.overwrite:
        raise InputError(
            f"{', '.join(taken)} exists already. Choose another output_dir or pass overwrite=True."
        )
    from etd_tf.jobs.safeguards import check_spares_inputs

    for form, target in targets.items():
        check_spares_inputs(target, {"model": [model_source(flags.model)]})
        if not FORMATS[form].may_replace(target):
            raise InputError(
                f"{target} holds something else than an earlier {form} export, which "
                "overwrite=True would delete. Choose another output_dir."
            )


def _describe(export: Export) -> str:
    lines = [f"{export.format:<12} {export.path}  {export.bytes_on_disk / 1e6:,.1f} MB"]
    if export.max_difference is not None:
        lines.append(f"{'':<12} largest difference from the model: {export.max_difference:.1e}")
    if export.note:
        lines.append(f"{'':<12} {export.note}")
    return "\n".join(lines) + "\n"


COMMAND = Command("etd_export", SUMMARY, (ExportFlags,), run)


if __name__ == "__main__":
    COMMAND.main()
