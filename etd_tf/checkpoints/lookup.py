"""Tensors gathered from several files or under other names, read on access."""

from collections.abc import Iterator, Mapping

from etd_tf.types import Array


class Lookup(Mapping[str, Array]):
    """A mapping whose values stay in other mappings until asked for.

    Args:
        places: For each name the mapping that holds the tensor and its name there.
    """

    def __init__(self, places: Mapping[str, tuple[Mapping[str, Array], str]]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> Array:
        tensors, theirs = self._places[name]
        return tensors[theirs]

    def __contains__(self, name: object) -> bool:
        return name in self._places  # the inherited method would read the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
