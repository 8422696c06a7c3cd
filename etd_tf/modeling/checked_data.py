"""Keras models that check the ids of every batch on the host, whatever kind of data they are given.

Inside of a compiled step it would be too late: XLA and GPUs take an id that a table lacks for
another one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import keras

from etd_tf.errors import input_errors
from etd_tf.lazy import tf
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.ids import IDS, check_ids


class CheckedModel(keras.Model):
    """A model of token ids: what Keras' own loops get is checked before it is compiled away."""

    def input_config(self) -> BertConfig:
        """The architecture whose tables inputs must fit."""
        config: BertConfig = self.config
        return config

    def fit(self, x: Any = None, *args: Any, **options: Any) -> Any:
        """As Keras says; an id that the model lacks is an `InputError`."""
        with input_errors():
            return super().fit(self._checked(x), *args, **self._checked_options(options))

    def evaluate(self, x: Any = None, *args: Any, **options: Any) -> Any:
        """As Keras says; an id that the model lacks is an `InputError`."""
        with input_errors():
            return super().evaluate(self._checked(x), *args, **options)

    def predict(self, x: Any, *args: Any, **options: Any) -> Any:
        """As Keras says; an id that the model lacks is an `InputError`."""
        with input_errors():
            return super().predict(self._checked(x), *args, **options)

    def train_on_batch(self, x: Any, *args: Any, **options: Any) -> Any:
        """As Keras says; an id that the model lacks is an `InputError`."""
        return super().train_on_batch(self._checked(x), *args, **options)

    def test_on_batch(self, x: Any, *args: Any, **options: Any) -> Any:
        """As Keras says; an id that the model lacks is an `InputError`."""
        return super().test_on_batch(self._checked(x), *args, **options)

    def predict_on_batch(self, x: Any) -> Any:
        """As Keras says; an id that the model lacks is an `InputError`."""
        return super().predict_on_batch(self._checked(x))

    def _checked(self, data: Any) -> Any:
        return checked_data(data, self.input_config())

    def _checked_options(self, options: dict[str, Any]) -> dict[str, Any]:
        held_out = options.get("validation_data")
        return (
            options if held_out is None else options | {"validation_data": self._checked(held_out)}
        )


def checked_data(data: Any, config: BertConfig) -> Any:
    """Refuses ids that a model lacks: at once in arrays, else as each batch is read.

    Args:
        data: A dictionary of arrays, alone or the first of a tuple; a `tf.data.Dataset`, a
            `keras.utils.PyDataset` or an iterator of these. Anything else passes unchecked.
        config: The model's architecture.

    Returns:
        The same data, of the same kind.

    Raises:
        InputError: An array holds an id that the model lacks.
    """
    if isinstance(data, tf.data.Dataset):
        return checked_dataset(data, config)
    if isinstance(data, keras.utils.PyDataset):
        return _CheckedPyDataset(data, config)
    if isinstance(data, Iterator) and not isinstance(data, tf.data.Iterator):
        return (_checked_batch(batch, config) for batch in data)
    return _checked_batch(data, config)


def checked_dataset(dataset: Any, config: BertConfig) -> Any:
    """Adds the check to a dataset, beside the work on the batch before.

    Args:
        dataset: A `tf.data.Dataset` of batches, alone or the first of a tuple.
        config: The model's architecture.

    Returns:
        The dataset. A wrong id is a TensorFlow error that `etd_tf.errors.input_errors`
        turns into an `InputError`.
    """

    def check(*values: Any) -> Any:
        check_ids(dict(zip(names, values, strict=True)), config, "A batch")
        return True

    def checked(*element: Any) -> Any:
        batch = element[0]
        token_ids = batch["token_ids"]
        with tf.control_dependencies(
            [tf.numpy_function(check, [batch[name] for name in names], tf.bool)]
        ):
            first = {**batch, "token_ids": tf.identity(token_ids)}
        return (first, *element[1:]) if len(element) > 1 else first

    spec = dataset.element_spec
    batch = spec[0] if isinstance(spec, tuple) and spec else spec
    if not isinstance(batch, Mapping) or not isinstance(batch.get("token_ids"), tf.TensorSpec):
        return dataset
    names = [name for name in IDS if isinstance(batch.get(name), tf.TensorSpec)]
    return dataset.map(checked).prefetch(1)  # so that no step waits for the check


class _CheckedPyDataset(keras.utils.PyDataset):
    """A PyDataset whose batches are checked."""

    def __init__(self, dataset: Any, config: BertConfig) -> None:
        super().__init__(dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size)
        self._dataset, self._config = dataset, config

    def __getitem__(self, index: int) -> Any:
        return _checked_batch(self._dataset[index], self._config)

    @property
    def num_batches(self) -> int | None:
        count: int | None = self._dataset.num_batches
        return count

    def on_epoch_begin(self) -> None:
        self._dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self._dataset.on_epoch_end()


def _checked_batch(data: Any, config: BertConfig) -> Any:
    batch = data[0] if isinstance(data, tuple | list) and len(data) else data
    if isinstance(batch, Mapping):
        check_ids(batch, config, "The data")
    return data
