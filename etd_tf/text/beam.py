"""Preparation on Apache Beam: the direct runner, Flink, Spark, Dataflow or any other."""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.storage.holding import hold
from etd_tf.storage.home import expand
from etd_tf.text.executors import Engine, Job, SharedFilesExecutor, Task
from etd_tf.text.options import RecordOptions
from etd_tf.text.prepare import Preparation
from etd_tf.text.records import RecordSet
from etd_tf.tokenization.tokenizer import Tokenizer

_ROOT = Path(__file__).resolve().parents[2]
# Beam's own choice for "direct" fetches a program (Prism) from the network first. This one
# is part of the package, and runs several processes where asked to.
_DIRECT_RUNNER = "FnApiRunner"


def prepare_on_beam(
    corpus: str | Sequence[str],
    tokenizer: Tokenizer,
    output_dir: str | Path,
    *,
    engine: Engine,
    options: RecordOptions | None = None,
    validation_corpus: str | Sequence[str] | None = None,
    overwrite: bool = False,
) -> RecordSet:
    """Turns text into TFRecords as `prepare_records` does, on the workers of an engine.

    Same text, tokenizer and options: same bytes. Each source is read by one worker, then
    each record file is written by one, which reads only the text it needs; a gzipped file
    has to be unzipped from its beginning for that.

    The arguments are those of `prepare_records`, with an engine (see `beam_engine`) instead of
    a number of workers. Text and `output_dir` are at the same place for all workers, on a file
    system that they share.

    Raises:
        InputError: As `prepare_records`; or the workers do not see the same files.
    """
    job = Preparation.open(corpus, tokenizer, options, validation_corpus)
    directory = expand(output_dir)
    with hold(directory):
        return job.run(directory, SharedFilesExecutor(engine, directory), overwrite=overwrite)


def beam_engine(runner: str, runner_options: Sequence[str] = (), *, workers: int = 0) -> Engine:
    """Makes an engine out of a Beam runner.

    Args:
        runner: `"direct"` for processes of this machine, or a runner's name in Beam, e.g.
            `"flink"`, `"spark"`, `"dataflow"`.
        runner_options: Beam's pipeline options, e.g. `--flink_master=host:8081`.
        workers: Processes of the direct runner; 0 for one a core. Others have options for it.

    Raises:
        InputError: Apache Beam is not installed, or refuses the runner or the options.
    """
    direct = runner.lower().removesuffix("runner") == "direct"
    if workers and not direct:
        raise InputError(
            f"workers={workers} is for runner=local and direct; {runner} has an option of its own "
            "for it, e.g. parallelism or max_num_workers."
        )
    if importlib.util.find_spec("apache_beam") is None:
        raise InputError(
            f"runner={runner} needs Apache Beam: pip install apache-beam. Without it, "
            "runner=local uses all cores of this machine."
        )
    arguments = _joined(runner_options)
    if direct:
        count = workers or os.cpu_count() or 1
        processes = ["--direct_running_mode=multi_processing", f"--direct_num_workers={count}"]
        runner, arguments = _DIRECT_RUNNER, [*processes, *arguments]  # the last one counts
    pipeline_options = _pipeline_options(runner, arguments)

    def run(job: Job, tasks: Sequence[Task]) -> None:
        import apache_beam as beam

        with (
            _importable_in_children(),
            _short_errors(),
            beam.Pipeline(options=pipeline_options) as pipeline,
        ):
            created = pipeline | "Tasks" >> beam.Create(list(tasks), reshuffle=False)
            # Without it a runner may keep all tasks on the worker that made them.
            spread = created | "Spread" >> beam.Reshuffle()
            _ = spread | type(job).__name__ >> beam.ParDo(_do_fn(job))

    return run


@contextlib.contextmanager
def _importable_in_children() -> Iterator[None]:
    """Lets the direct runner's processes find this package where it is not installed."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), before]))
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


@contextlib.contextmanager
def _short_errors() -> Iterator[None]:
    """Puts what went wrong first; Beam's message is a worker's whole traceback."""
    try:
        yield
    except RuntimeError as error:
        *_, reason = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
        raise RuntimeError(f"A worker failed: {reason.strip()}") from error


def _joined(arguments: Sequence[str]) -> list[str]:
    """Puts values that hold commas together again, as in `--experiments=a,b`."""
    joined: list[str] = []
    for argument in arguments:
        if argument.startswith("--"):
            joined.append(argument)
        elif joined:
            joined[-1] += f",{argument}"
        else:
            raise InputError(
                f"runner_options={','.join(arguments)} has to list options as Beam takes "
                "them, with two dashes and '=', e.g. runner_options=--flink_master=HOST:8081."
            )
    return joined


def _pipeline_options(runner: str, arguments: Sequence[str]) -> Any:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import create_runner

    try:
        create_runner(runner)
        # Never of this process' command line, which PipelineOptions() would read.
        options = PipelineOptions([f"--runner={runner}", *arguments])
        given = options.get_all_options(retain_unknown_options=True)  # checks their form
        beam.Pipeline(options=options)  # checks what the runner needs
    except SystemExit as error:  # of argparse, which has written what is wrong
        raise InputError(
            f"Apache Beam does not take runner_options={','.join(arguments)}; see above."
        ) from error
    except (ValueError, ImportError, AttributeError) as error:
        raise InputError(
            f"Apache Beam refuses runner={runner} runner_options={','.join(arguments)}: {error}"
        ) from error
    # Of other runners Beam knows some options only when it asks their job server.
    if runner == _DIRECT_RUNNER and (unknown := set(given) - set(options.get_all_options())):
        raise InputError(
            f"runner=direct has no option --{', --'.join(sorted(unknown))}; see "
            "https://beam.apache.org/documentation/runners/direct."
        )
    return options


def _do_fn(job: Job) -> Any:
    import apache_beam as beam

    class RunTask(beam.DoFn):
        """Runs a job on tasks; loads what it needs once a worker."""

        def setup(self) -> None:
            # As many workers as cores: each one tokenises on one.
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            self._run: Callable[[Task], None] = job.start()

        def process(self, task: Task) -> Iterable[Any]:
            self._run(task)
            return ()

    return RunTask()
