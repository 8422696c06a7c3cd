"""`bin/etd_export`: a model in the forms that other programs take."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from etd_tf.cli.app import Command, FlagSet, run_command
from etd_tf.cli.flags import model_source
from etd_tf.errors import InputError

if TYPE_CHECKING:
    from etd_tf.export import Export

FORMATS = ("saved_model", "huggingface", "keras_hub", "google", "litert")

SUMMARY = """writes a model in other formats; each one is loaded back and compared.

Example:
  etd_export --model=out --format=saved_model,litert --output_dir=exported

saved_model: TensorFlow Serving, text goes in. huggingface: Transformers. keras_hub: KerasHub.
google: google-research/bert and tf-models. litert: one .tflite file for phones.
"""


def define_flags(flag_set: FlagSet) -> None:
    """Defines every flag of the command."""
    flag_set.group("Model")
    flag_set.string(
        "model",
        None,
        "A directory made by etd_distill or etd_extract, or anything that --teacher takes there.",
    )
    flag_set.group("Export")
    flag_set.strings("format", ["saved_model"], f"One or more of: {', '.join(FORMATS)}.")
    flag_set.integer(
        "max_length",
        None,
        "saved_model: tokens that texts are cut to; default: the model's positions.",
        minimum=5,
    )
    flag_set.boolean("quantize", False, "litert: int8 kernels, a quarter of the size.")
    flag_set.string("output_dir", None, "Each format becomes a directory in here.")
    flag_set.boolean("overwrite", False, "Replace what is there.")
    flag_set.required("model", "output_dir")


def run(values: flags.FlagValues) -> None:
    """Exports the model that the flags name and prints what was written."""
    formats = tuple(dict.fromkeys(values.format))
    targets = {form: Path(values.output_dir).expanduser() / form for form in formats}
    _check(values, targets)
    from etd_tf.checkpoints import load_checkpoint
    from etd_tf.export import ExportOptions, export_checkpoint

    _check_nothing_lost(values, targets)
    checkpoint = load_checkpoint(model_source(values.model))
    options = ExportOptions(max_length=values.max_length, quantize=values.quantize)
    for form, target in targets.items():
        export = export_checkpoint(
            checkpoint, target, form, options=options, overwrite=values.overwrite
        )
        sys.stdout.write(_describe(export))


def _check(values: flags.FlagValues, targets: dict[str, Path]) -> None:
    """Refuses what cannot work before TensorFlow loads."""
    unknown = [form for form in targets if form not in FORMATS]
    if unknown or not targets:
        raise InputError(
            f"--format={','.join(values.format)} is not known; choose from {', '.join(FORMATS)}."
        )
    for flag, form in (("max_length", "saved_model"), ("quantize", "litert")):
        if values[flag].value and form not in targets:
            raise InputError(f"--{flag} has an effect on --format={form} only; add it or drop it.")
    taken = [str(path) for path in targets.values() if path.exists()]
    if taken and not values.overwrite:
        raise InputError(
            f"{', '.join(taken)} exists already. Choose another --output_dir or pass --overwrite."
        )


def _check_nothing_lost(values: flags.FlagValues, targets: dict[str, Path]) -> None:
    """Refuses to replace the model itself, and what is no earlier export."""
    from etd_tf.export import holds_export
    from etd_tf.jobs.safeguards import check_spares_inputs

    for form, target in targets.items():
        check_spares_inputs(target, {"model": [model_source(values.model)]})
        if not holds_export(target, form):
            raise InputError(
                f"{target} holds something else than an earlier {form} export, which --overwrite "
                "would delete. Choose another --output_dir."
            )


def _describe(export: "Export") -> str:
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
