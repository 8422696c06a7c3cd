"""Arms side by side: the same distillation from differently initialised students.

Source: Chen et al. 2021 (arXiv 2104.11928), the comparison of ETD-Impt, ETD-Rand and
random initialisation at equal compute.
"""

import gc
from collections.abc import Sequence

from etd_tf.errors import DivergenceError
from etd_tf.extraction.starts import STARTS
from etd_tf.jobs.compare_arm import run_arms
from etd_tf.jobs.compare_downstream import add_scores, teacher_scores
from etd_tf.jobs.compare_runs import is_finished, joint_facts, load_run, read_runs
from etd_tf.jobs.compare_study import LAYOUT, Study, check_comparison, workspace_of
from etd_tf.jobs.compare_types import CompareOptions, RunsOptions, RunSpec
from etd_tf.jobs.costs import ComparisonForecast, forecast_runs
from etd_tf.jobs.outputs import data_facts
from etd_tf.progress import track
from etd_tf.reporting import Machine, ModelFacts, describe_machine, model_facts
from etd_tf.reporting.comparison import ArmRun, Comparison
from etd_tf.reporting.comparison_page import write_comparison
from etd_tf.reporting.facts import command_line, now
from etd_tf.settings import listed
from etd_tf.storage.home import expand
from etd_tf.storage.workspace import Workspace


def run_comparison(options: CompareOptions) -> Comparison:
    """Makes every run that is not finished, and the report after each.

    Raises:
        InputError: Something in the settings, the files or the directory cannot be used;
            found before long work starts.
        DivergenceError: Runs diverged; the others are finished and reported.
        Interrupted: A signal ended the work; the same call continues it.
    """
    task_data = options.downstream.fingerprints()
    with workspace_of(options).open() as workspace:
        study = Study.prepare(options, workspace.path, task_data)
        workspace.begin(study.identity())
        comparison = _Runs(study).finish()
    if comparison.failures:
        raise DivergenceError(
            f"{len(comparison.failures)} of {comparison.planned} runs diverged, the others are in "
            f"{workspace.path}. First: {comparison.failures[0]}"
        )
    return comparison


def compare_runs(options: RunsOptions) -> Comparison:
    """Compares finished runs of etd_distill, as they are.

    Raises:
        InputError: A run is not finished, or they have not all one teacher and one held-out
            text; or the directory cannot be used.
    """
    with Workspace(LAYOUT, expand(options.output_dir)).open() as workspace:
        found = read_runs([expand(folder) for folder in options.runs])
        names = ("teacher", "held-out text")
        workspace.begin({name: found[0].shared[name] for name in names})
        report, runs = found[0].report, tuple(one.run for one in found)
        flags = {"output_dir": str(options.output_dir), "runs": listed(options.runs)}
        comparison = Comparison(
            title=f"{report['teacher']['source']}: runs side by side",
            created=now(),
            command=command_line(LAYOUT.job, flags),
            teacher=ModelFacts(**report["teacher"]),
            labels={run.arm: STARTS[run.arm].title for run in runs if run.arm in STARTS},
            runs=runs,
            planned=len(runs),
            machine=Machine(**report["machine"]),
            data=joint_facts(found),
            flags=flags,
        )
        write_comparison(workspace.path, comparison)
    return comparison


def forecast_comparison(options: CompareOptions) -> ComparisonForecast:
    """Checks a comparison as far as possible without long work, and forecasts its cost.

    Returns:
        The forecast; times are rough.

    Raises:
        InputError: A run could not be made.
    """
    workspace = workspace_of(options)
    workspace.check()
    options.downstream.fingerprints()  # only for their checks
    teacher, configs = check_comparison(options)
    missing = {
        spec: config
        for spec, config in configs.items()
        if not is_finished(workspace.path / spec.folder)
    }
    return forecast_runs(options, teacher, missing, finished=len(configs) - len(missing))


class _Runs:
    """Makes the runs in their order and keeps the report up to date."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._machine = describe_machine()
        self._specs = list(study.configs)
        self._runs: dict[RunSpec, ArmRun] = {}
        self._failures: list[str] = []
        self._teacher_scores = teacher_scores(study)

    def finish(self) -> Comparison:
        """Makes what is missing; returns everything."""
        study = self._study
        folders = {spec: study.folder / spec.folder for spec in self._specs}
        self._runs = {spec: load_run(at) for spec, at in folders.items() if is_finished(at)}
        steps = study.options.base.trainer.steps
        missing = [spec for spec in self._specs if spec not in self._runs]
        for spec in list(self._runs):
            self._score(spec)
        comparison = self._report()
        done = steps * len(self._runs)
        with track("Comparing arms", steps * len(folders), "steps", done=done) as tracker:
            for group in study.options.groups(missing):
                self._make(group)
                comparison = self._report()
                note = f"{len(self._runs)} of {len(folders)} runs done, last {group[-1].name}"
                tracker.advance(steps * len(group), note)
        return comparison

    def _make(self, group: Sequence[RunSpec]) -> None:
        results = run_arms(self._study, group)
        for spec, result in zip(group, results, strict=True):
            if isinstance(result, DivergenceError):
                self._failures.append(f"{spec.name}: {result}")
            else:
                self._runs[spec] = result
                self._score(spec)
        gc.collect()  # models and compiled steps refer to each other; devices run full otherwise

    def _score(self, spec: RunSpec) -> None:
        """Adds the downstream scores that a finished run lacks."""
        try:
            self._runs[spec] = add_scores(self._study, spec, self._runs[spec])
        except DivergenceError as error:  # of fine-tuning
            self._failures.append(f"{spec.name}: {error}")

    def _report(self) -> Comparison:
        study = self._study
        options, records = study.options, study.records
        length = records.sequence_length
        run = options.distill_options(self._specs[0], study.folder)
        comparison = Comparison(
            title=f"{options.base.teacher}: arms side by side",
            created=now(),
            command=command_line(LAYOUT.job, options.base.settings),
            teacher=model_facts(study.teacher, sequence_length=length, source=options.base.teacher),
            teacher_scores=self._teacher_scores,
            labels={name: STARTS[name].title for name in options.arms},
            runs=tuple(self._runs[spec] for spec in self._specs if spec in self._runs),
            planned=len(self._specs),
            failures=tuple(self._failures),
            machine=self._machine,
            data={**data_facts(run, records), "batch size": run.trainer.batch_size},
            flags=options.base.settings,
        )
        write_comparison(study.folder, comparison)
        return comparison
