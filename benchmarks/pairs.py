"""Which vector a head should read, and how pairs: --pool and --pairs on STS-B, MRPC and RTE.

    .venv/bin/python benchmarks/pairs.py --models=STUDENT,TEACHER --glue_dir=DIR --output_dir=OUT

Fine-tunes each model in every way with several seeds and prints mean, deviation and each seed's
score on dev; of STS-B also what cosines give without any training. The same command continues what
is not finished. Meant for students of sentence encoders, which never learnt to look across texts.
"""

import argparse
import itertools
import json
import statistics

from task_runs import add_flags, finished, print_table, task_flags, training_flags

from etd_tf import tasks
from etd_tf.checkpoints import load_checkpoint
from etd_tf.modeling.reading import PAIRS, POOLS

TASKS = "glue/stsb,glue/mrpc,glue/rte"


def zero_shot(model: str, glue_dir: str) -> float:
    """Spearman correlation of cosines on STS-B's dev split."""
    task = tasks.get("sts-probe", glue_dir=glue_dir)
    return float(task.score({model: load_checkpoint(model)})[model][task.metric])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", required=True, help="directories, with commas between")
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--pools", default=",".join(POOLS))
    add_flags(parser)
    options = parser.parse_args()
    rows, found = [], []
    for number, model in enumerate(options.models.split(",")):
        for task in options.tasks.split(","):
            if task == "glue/stsb":
                cosine = zero_shot(model, options.glue_dir)
                rows.append([model, task, "no training", "cosine", f"{cosine:.4f}", "", ""])
            for pool, pairs in itertools.product(options.pools.split(","), PAIRS):
                reading = [f"--pool={pool}", f"--pairs={pairs}"]
                flags = [f"--model={model}", *task_flags(options, task), *reading]
                place = options.output_dir / f"model-{number}" / task / f"{pool}-{pairs}"
                run = finished("etd_evaluate", place, [*flags, *training_flags(options)])
                scores = run.scores
                spread = f"{statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
                mean, each = statistics.fmean(scores), " ".join(f"{s:.4f}" for s in scores)
                rows.append([model, task, pool, pairs, f"{mean:.4f}", spread, each])
                values = {"model": model, "task": task, "pool": pool, "pairs": pairs}
                found.append({**values, "scores": scores, "seconds": run.seconds})
    table = options.output_dir / "table.json"
    table.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print_table(["model", "task", "pool", "pairs", "mean", "std", "by seed"], rows)


if __name__ == "__main__":
    main()
