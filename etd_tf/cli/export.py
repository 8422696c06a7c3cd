"""`bin/etd_export`: a model in the forms that other programs take."""

import sys
from pathlib import Path

from absl import flags

from etd_tf.cli.app import Command, FlagSet, run_command
from etd_tf.cli.flags import model_source
from etd_tf.errors import InputError
from etd_tf.export import FORMATS, Export
from etd_tf.settings import settings_of

SUMMARY = """writes a model in other formats; each one is loaded back and compared.

Example:
  etd_export --model=out --format=saved_model,litert --output_dir=exported"""


def define_flags(flag_set: FlagSet) -> None:
    """Defines every flag of the command."""
    flag_set.group("Model")
    flag_set.string(
        "model",
        None,
        "A directory made by etd_distill or etd_extract, or anything that --teacher takes there.",
    )
    flag_set.group("Export")
    flag_set.strings(
        "format",
        ["saved_model"],
        "One or more of: "
        + "; ".join(f"{name}: {form.summary}" for name, form in FORMATS.items())
        + ".",
    )
    for form in FORMATS.values():
        for option in settings_of(form):
            flag_set.setting(option)
    flag_set.string("output_dir", None, "Each format becomes a directory in here.")
    flag_set.boolean("overwrite", False, "Replace what is there.")
    flag_set.required("model", "output_dir")


def run(values: flags.FlagValues) -> None:
    """Exports the model that the flags name and prints what was written."""
    formats = tuple(dict.fromkeys(values.format))
    targets = {form: Path(values.output_dir).expanduser() / form for form in formats}
    _check(values, targets)
    from etd_tf.checkpoints import load_checkpoint

    _check_nothing_lost(values, targets)
    checkpoint = load_checkpoint(model_source(values.model))
    for name, target in targets.items():
        options = {one.name: values[one.flag].value for one in settings_of(FORMATS[name])}
        form = FORMATS[name](**options)
        sys.stdout.write(_describe(form.write(checkpoint, target, overwrite=values.overwrite)))


def _check(values: flags.FlagValues, targets: dict[str, Path]) -> None:
    """Refuses what cannot work before TensorFlow loads."""
    unknown = [form for form in targets if form not in FORMATS]
    if unknown or not targets:
        raise InputError(
            f"--format={','.join(values.format)} is not known; choose from {', '.join(FORMATS)}."
        )
    for name in FORMATS.keys() - targets.keys():
        for one in settings_of(FORMATS[name]):
            if values[one.flag].value != one.default:
                raise InputError(
                    f"--{one.flag} has an effect on --format={name} only; add it or drop it."
                )
    taken = [str(path) for path in targets.values() if path.exists()]
    if taken and not values.overwrite:
        raise InputError(
            f"{', '.join(taken)} exists already. Choose another --output_dir or pass --overwrite."
        )


def _check_nothing_lost(values: flags.FlagValues, targets: dict[str, Path]) -> None:
    """Refuses to replace the model itself, and what is no earlier export."""
    from etd_tf.jobs.safeguards import check_spares_inputs

    for form, target in targets.items():
        check_spares_inputs(target, {"model": [model_source(values.model)]})
        if not FORMATS[form].may_replace(target):
            raise InputError(
                f"{target} holds something else than an earlier {form} export, which --overwrite "
                "would delete. Choose another --output_dir."
            )


def _describe(export: Export) -> str:
    lines = [f"{export.format:<12} {export.path}  {export.bytes_on_disk / 1e6:,.1f} MB"]
    if export.max_difference is not None:
        lines.append(f"{'':<12} largest difference from the model: {export.max_difference:.1e}")
    if export.note:
        lines.append(f"{'':<12} {export.note}")
    return "\n".join(lines) + "\n"


COMMAND = Command("etd_export", SUMMARY, define_flags, run)


def main() -> None:
    """Entry point of `etd_export`."""
    sys.exit(run_command(COMMAND))


if __name__ == "__main__":
    main()
