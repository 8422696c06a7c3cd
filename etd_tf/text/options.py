"""Settings of the preparation of text."""

import dataclasses

from etd_tf.settings import Settings, setting

MAX_LENGTH = 1 << 16  # tokens an example
TEXT_KINDS = (
    "UTF-8 text with a blank line between documents, JSON lines with a field 'text', or text with "
    "<doc> tags, <|endoftext|> or wikitext's headings between documents; also packed by gzip, "
    "bzip2 or xz"
)
"""What a file of a corpus may hold, for help pages; see `etd_tf.text.formats`."""


@dataclasses.dataclass(frozen=True)
class RecordOptions(Settings):
    """How text becomes examples."""

    title = "Examples"

    sequence_length: int = setting(
        128, "Tokens an example, [CLS] and [SEP] included; usually 128.", least=3, most=MAX_LENGTH
    )
    packing: bool = setting(
        True,
        "Fill every example with running text, [SEP] between documents; packing=False starts an "
        "example at each line and pads it.",
    )
    num_shards: int | None = setting(
        None,
        "Training files, at most one a document; default: one per 32 MB.",
        least=1,
        group="Run",
    )
    held_out_fraction: float = setting(
        0.02,
        "Share of the text held out for validation, as whole documents chosen by content and "
        "seed; equal ones stay together. 0 for none.",
        least=0.0,
        below=1.0,
        group="Text",
    )
    seed: int = setting(0, "Seed of the held-out choice.", least=0, group="Run")
