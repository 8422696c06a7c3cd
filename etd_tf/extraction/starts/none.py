"""Random weights: the baseline without extraction."""

import dataclasses

from etd_tf.extraction.starts.start import ExtractionOptions, InitialStudent, Start, Work


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomWeights(Start):
    """Takes nothing from the teacher but its tokenizer.

    Source: Chen et al. 2021 (arXiv 2104.11928), the baseline of the comparison.
    """

    def idle(self, options: ExtractionOptions) -> dict[str, str]:
        """See `Start.idle`."""
        why = f"extraction={self.name} cuts nothing out of the teacher"
        return dict.fromkeys(super().idle(options), why)

    def make(self, work: Work) -> InitialStudent:
        """See `Start.make`."""
        from etd_tf.extraction.student import initial_student

        return InitialStudent(initial_student(work.teacher, work.config, seed=work.seed))
