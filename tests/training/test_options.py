"""Tests of the training settings."""

import math
import sys

import pytest

from etd_tf.errors import InputError
from etd_tf.settings import free_flags
from etd_tf.training.options import TrainerOptions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, r"steps=0: expected a whole number >= 1"),
        ({"steps": 2.5}, r"steps=2\.5: expected a whole number"),
        ({"steps": True}, r"steps=True: expected a whole number"),
        ({"batch_size": -4}, r"batch_size=-4: .* >= 1"),
        ({"keep_checkpoints": 0}, r"keep_checkpoints=0: .* >= 1"),
        ({"evaluate_every": -1}, r"evaluate_every=-1: .* >= 0"),
        ({"seed": -1}, r"seed=-1: .* >= 0"),
        ({"seed": 2**31}, r"seed=2147483648: .* <= 2,130,706,431"),
        ({"learning_rate": math.nan}, r"learning_rate=nan: expected a finite number"),
        ({"learning_rate": math.inf}, r"learning_rate=inf: expected a finite number"),
        ({"learning_rate": 0.0}, r"learning_rate=0 trains nothing"),
        ({"weight_decay": -0.1}, r"weight_decay=-0\.1: expected a finite number >= 0"),
        ({"clip_norm": -1.0}, r"clip_norm=-1\.0"),
        ({"warmup_steps": 11}, r"warmup_steps=11 is more than steps=10; shorten"),
        ({"gradient_accumulation": 5}, r"batch_size=32 .* Nearest batch sizes that can: 30 or 35"),
        ({"batch_size": 2, "gradient_accumulation": 3}, r"Nearest batch sizes that can: 3\."),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        TrainerOptions(**{"steps": 10, **changes})


def test_a_batch_must_fit_the_replicas():
    options = TrainerOptions(steps=1, batch_size=8, gradient_accumulation=2)
    options.check_split(4)
    with pytest.raises(InputError, match=r"over 3 replica\(s\) .* 6 or 12"):
        options.check_split(3)


def test_what_does_not_change_the_weights_may_change_on_resuming():
    options = TrainerOptions(steps=3)
    same = TrainerOptions(
        steps=3,
        log_every=1,
        evaluate_every=1,
        checkpoint_every=1,
        keep_checkpoints=1,
        steps_per_call=9,
    )
    assert same.identity() == options.identity()
    assert not free_flags(TrainerOptions) & set(options.identity())
    assert TrainerOptions(steps=3, seed=1).identity() != options.identity()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
