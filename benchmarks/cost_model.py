"""Predicts step time, scaling and input rate of a distillation on several devices.

    .venv/bin/python benchmarks/cost_model.py --device=a100 --devices=1,8 --sequence_lengths=128,512

One line a number of devices and sequence length. Nothing is trained: operations come from
the library's own counts, rates from data sheets (see `DEVICES`) or from flags. `--device=own`
takes all rates from `--rate`, `--memory_bandwidth`, `--bandwidth` and `--latency`. `--measured_ms`,
the time of a step on one device, gives the efficiency that it implies.

The model, per step of a global batch on n devices, is described in docs/scaling.md:

    compute   F / n / (R e)                  F FLOPs, R FLOP/s of a device, e the share reached
    update    40 P / M                       P trained scalars, M bytes/s of memory
    exchange  2 (n - 1) / n * 4 P / W        ring all-reduce of float32 gradients, W bytes/s
              + 2 (n - 1) a                  a seconds of latency a message
"""

import argparse
import dataclasses
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from etd_tf.jobs.costs import training_flops
from etd_tf.jobs.options import StudentSize
from etd_tf.modeling.config import BertConfig
from etd_tf.storage.tfrecord import frame_records, serialize_examples

GRADIENT_BYTES = 4  # variables and their gradients are float32 in every precision
UPDATE_BYTES = 10 * 4  # norm 1 read; clip 1 + 1; AdamW reads 4 and writes 3 float32 a scalar
EFFICIENCY = 0.4  # share of the rate that a step reaches: an assumption, see docs/scaling.md
FEED_BYTES = 3 * 4  # token_ids, segment_ids, padding_mask: int32


@dataclasses.dataclass(frozen=True)
class Device:
    """Peak rates of one device.

    Attributes:
        rate: Dense matrix products, FLOP/s, in the precision that training uses.
        memory: Bytes/s of its memory.
        bandwidth: Bytes/s that it sends to its neighbours, one direction.
        latency: Seconds a message.
        source: Where the numbers are from.
    """

    rate: float
    memory: float
    bandwidth: float
    latency: float
    source: str


_NVLINK = "NVIDIA data sheet; NVLink counted in one direction; latency assumed"
_ICI = "Google Cloud TPU documentation; all-reduce bandwidth of a pod / its chips; latency assumed"
DEVICES = {
    "v100": Device(125e12, 900e9, 150e9, 5e-6, f"V100 SXM2, float16. {_NVLINK}"),
    "a100": Device(312e12, 2039e9, 300e9, 5e-6, f"A100 SXM4 80 GB, bfloat16. {_NVLINK}"),
    "h100": Device(989e12, 3350e9, 450e9, 5e-6, f"H100 SXM5, bfloat16. {_NVLINK}"),
    "tpu-v3": Device(123e12, 900e9, 340e12 / 1024, 5e-6, f"TPU v3 chip, bfloat16. {_ICI}"),
    "tpu-v4": Device(275e12, 1200e9, 1.1e15 / 4096, 5e-6, f"TPU v4 chip, bfloat16. {_ICI}"),
}


OWN = "own"


@dataclasses.dataclass(frozen=True)
class Job:
    """What is trained.

    Attributes:
        teacher: The teacher's sizes.
        student: The student's sizes.
        batch_size: Sequences a step, over all devices.
        sequence_length: Tokens a sequence.
    """

    teacher: BertConfig
    student: BertConfig
    batch_size: int
    sequence_length: int

    @property
    def flops(self) -> int:
        """Operations of a step."""
        return training_flops(
            self.teacher,
            self.student,
            sequences=self.batch_size,
            sequence_length=self.sequence_length,
        )

    @property
    def parameters(self) -> int:
        """Trained scalars, at most: a loss may leave the last layer's end untouched."""
        return self.student.num_parameters(pooler=False)


@dataclasses.dataclass(frozen=True)
class Step:
    """Predicted seconds of a step on `devices` devices, one part after the other.

    Attributes:
        devices: Their number.
        compute: Forward and backward passes.
        update: Clipping and AdamW, the same on every device.
        exchange: The all-reduce of the gradients.
    """

    devices: int
    compute: float
    update: float
    exchange: float

    @property
    def seconds(self) -> float:
        """The whole step; nothing overlaps."""
        return self.compute + self.update + self.exchange


def predict(job: Job, device: Device, *, devices: int, efficiency: float) -> Step:
    """Applies the model of this file's docstring."""
    size = GRADIENT_BYTES * job.parameters
    ring = 2 * (devices - 1)
    return Step(
        devices,
        compute=job.flops / devices / (device.rate * efficiency),
        update=UPDATE_BYTES * job.parameters / device.memory,
        exchange=ring / devices * size / device.bandwidth + ring * device.latency,
    )


def calibrated(job: Job, device: Device, measured: float) -> float:
    """The efficiency with which one device takes `measured` seconds for a step."""
    update = predict(job, device, devices=1, efficiency=1.0).update
    if measured <= update:
        raise SystemExit(f"The update alone takes {update * 1e3:.3g} ms; give a longer time.")
    return job.flops / (device.rate * (measured - update))


def record_bytes(sequence_length: int, vocab_size: int) -> int:
    """Bytes of one training example in a file of `etd_prepare`, its ids evenly distributed."""
    ids = np.random.default_rng(0).integers(0, vocab_size, (1, sequence_length))
    (record,) = frame_records(serialize_examples(ids, np.asarray([sequence_length])))
    return len(record)


def config(text: str, flags: argparse.Namespace) -> BertConfig:
    size = StudentSize.parse(text)
    return BertConfig(
        vocab_size=flags.vocab_size,
        num_layers=size.num_layers or 1,
        hidden_size=size.hidden_size or 1,
        num_heads=size.num_heads or 1,
        intermediate_size=size.intermediate_size or 1,
    )


def chosen_device(flags: argparse.Namespace) -> Device:
    """The named device, with the rates that flags give."""
    given = {
        "rate": flags.rate,
        "memory": flags.memory_bandwidth,
        "bandwidth": flags.bandwidth,
        "latency": flags.latency,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if flags.device == OWN:
        if len(given) < 4:
            rates = "--rate, --memory_bandwidth, --bandwidth and --latency"
            raise SystemExit(f"--device={OWN} needs {rates}")
        return Device(**given, source="Rates given by flags.")
    device = dataclasses.replace(DEVICES[flags.device], **given)
    source = f"{device.source}. By flag: {', '.join(given)}." if given else f"{device.source}."
    return dataclasses.replace(device, source=source)


def table(flags: argparse.Namespace, device: Device) -> list[list[str]]:
    """The rows that are printed."""
    teacher, student = config(flags.teacher, flags), config(flags.student, flags)
    rows = [
        [
            *("devices", "tokens", "TFLOP", "compute ms", "update ms", "exchange ms", "step ms"),
            *("scaling", "M tokens/s", "read MB/s", "feed MB/s", "hours"),
        ]
    ]
    for length in flags.sequence_lengths:
        job = Job(teacher, student, flags.batch_size, length)
        efficiency = flags.efficiency
        if flags.measured_ms:
            efficiency = calibrated(job, device, flags.measured_ms / 1e3)
        alone = predict(job, device, devices=1, efficiency=efficiency).seconds
        for count in flags.devices:
            step = predict(job, device, devices=count, efficiency=efficiency)
            rate = job.batch_size / step.seconds
            parts = (step.compute, step.update, step.exchange, step.seconds)
            rows.append(
                [
                    f"{count}",
                    f"{length}",
                    f"{job.flops / 1e12:.3g}",
                    *(f"{1e3 * part:.2f}" for part in parts),
                    f"{alone / step.seconds / count:.0%}",
                    f"{rate * length / 1e6:.3g}",
                    f"{rate * record_bytes(length, flags.vocab_size) / 1e6:.3g}",
                    f"{rate * length * FEED_BYTES / 1e6:.3g}",
                    f"{flags.steps * step.seconds / 3600:.2f}",
                ]
            )
    return rows


def read_flags(arguments: list[str] | None = None) -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = "layers x hidden x heads x intermediate"
    parser.add_argument("--teacher", default="12x768x12x3072", help=sizes)
    parser.add_argument("--student", default="6x384x12x1536", help=sizes)
    parser.add_argument("--vocab_size", type=int, default=30522)
    parser.add_argument("--batch_size", type=int, default=256, help="over all devices")
    parser.add_argument("--sequence_lengths", type=numbers, default=[128, 512])
    parser.add_argument("--steps", type=int, default=120_000)
    parser.add_argument("--device", choices=[*DEVICES, OWN], default="v100")
    parser.add_argument("--devices", type=numbers, default=[1, 8])
    parser.add_argument("--rate", type=float, help="FLOP/s of matrix products")
    parser.add_argument("--bandwidth", type=float, help="bytes/s to the neighbours, one direction")
    parser.add_argument("--memory_bandwidth", type=float, help="bytes/s")
    parser.add_argument("--latency", type=float, help="seconds a message")
    parser.add_argument("--efficiency", type=float, default=EFFICIENCY, help="share of rate")
    parser.add_argument("--measured_ms", type=float, help="a step on one device; sets efficiency")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    flags = read_flags(arguments)
    device = chosen_device(flags)
    student = Job(*(config(text, flags) for text in (flags.teacher, flags.student)), 1, 1)
    rates = f"{device.rate / 1e12:.4g} TFLOP/s, memory {device.memory / 1e9:.4g} GB/s"
    print(f"{flags.device}: {rates}, exchange {device.bandwidth / 1e9:.4g} GB/s")
    print(f"  {device.source}")
    print(f"gradients: {GRADIENT_BYTES * student.parameters / 1e6:.1f} MB a step\n")
    rows = table(flags, device)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    main()
