"""The report of a run: `report.json` for programs and `report.html` for people."""

from etd_tf.export import Export
from etd_tf.reporting.facts import (
    describe_machine,
    make_curves,
    model_facts,
)
from etd_tf.reporting.report import (
    Check,
    Cost,
    Curve,
    ExtractionFacts,
    FidelityFacts,
    Machine,
    ModelFacts,
    RunReport,
    Stage,
)
from etd_tf.reporting.writing import write_report

__all__ = [
    "Check",
    "Cost",
    "Curve",
    "Export",
    "ExtractionFacts",
    "FidelityFacts",
    "Machine",
    "ModelFacts",
    "RunReport",
    "Stage",
    "describe_machine",
    "make_curves",
    "model_facts",
    "write_report",
]
