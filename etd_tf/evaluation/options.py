"""Settings of fine-tuning."""

import dataclasses

from etd_tf.settings import Settings, setting

MAX_SEED = 2**31 - 1
MODEL_DIR, PREDICTIONS_DIR, SAVED_MODEL_DIR = "model", "predictions", "saved_model"
PAGE_FILE = "report.html"
OUTPUTS = (MODEL_DIR, PREDICTIONS_DIR, SAVED_MODEL_DIR, PAGE_FILE)
"""What a run may write beside its record."""


@dataclasses.dataclass(frozen=True)
class FinetuneOptions(Settings):
    """Settings of a fine-tuning run.

    With several learning rates, each is first trained on nine tenths of the training
    data and scored on the rest; the one with the best mean is then trained on all of
    it. The dev set is used only for the final score, never to choose a learning rate.

    Raises:
        InputError: A list is empty or repeats itself, or a value is out of range.
    """

    title = "Fine-tuning"

    learning_rates: tuple[float, ...] = setting(
        (1e-4,), "Peak learning rates to choose from.", above=0.0, some=True, distinct=True
    )
    seeds: tuple[int, ...] = setting(
        (0,),
        "One training each; results are means over them.",
        least=0,
        most=MAX_SEED,
        some=True,
        distinct=True,
    )
    epochs: int = setting(3, "Passes over the training data.", least=1)
    batch_size: int = setting(32, "Examples a step.", least=1)
    warmup_ratio: float = setting(
        0.1, "Share of the steps with a rising learning rate.", least=0.0, most=1.0
    )
    weight_decay: float = setting(0.01, "AdamW decay; biases and LayerNorms are spared.", least=0.0)
    precision: str = setting(
        "float32", "Precision of matrix products.", choices=("float32", "mixed_bfloat16")
    )
    saved_model: bool = setting(
        False, "Also write the first seed's model as a SavedModel: text to label probabilities."
    )

    @property
    def num_trainings(self) -> int:
        """Trainings of the whole run."""
        rates = len(self.learning_rates)
        return len(self.seeds) * (rates + 1 if rates > 1 else 1)
