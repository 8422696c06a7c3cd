"""The report of a run: `report.json` for programs and `report.html` for people."""

from etd_tf.export import Export
from etd_tf.reporting.facts import (
    describe_machine,
    make_curves,
    model_facts,
)
from etd_tf.reporting.page import write_report
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
