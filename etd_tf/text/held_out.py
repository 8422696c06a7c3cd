"""Documents that may be held out, by a hash of their text."""

import hashlib
import heapq

_HASH_BYTES = 8
_MORE_CANDIDATES = 64


class Candidates:
    """Documents with low hashes: twice the share expected to be needed, and a few more.

    Which ones are kept does not depend on the order in which they are offered.

    Args:
        fraction: Share of the text to hold out.
        seed: Another seed gives other hashes.

    Attributes:
        fraction: Share of the text to hold out.
    """

    def __init__(self, fraction: float, seed: int) -> None:
        self.fraction = fraction
        self._limit = int(2 * fraction * 256**_HASH_BYTES)
        self._key = str(seed).encode()[:64]
        self._by_hash: dict[int, dict[int, int]] = {}  # hash -> number -> characters
        self._above: list[int] = []  # heap of negated hashes over the limit

    def offer(self, number: int, document: str) -> None:
        """Takes a document if its hash is low; none for a fraction of 0."""
        if not self.fraction:
            return
        text = document.encode("utf-8")
        digest = hashlib.blake2b(text, digest_size=_HASH_BYTES, key=self._key).digest()
        self.add(int.from_bytes(digest, "big"), number, len(document))

    def add(self, value: int, number: int, characters: int) -> None:
        """Takes a document by its hash, e.g. one that other candidates kept."""
        if value not in self._by_hash and value >= self._limit:
            heapq.heappush(self._above, -value)
            if len(self._above) > _MORE_CANDIDATES:
                largest = -heapq.heappop(self._above)
                self._by_hash.pop(largest, None)
                if value == largest:
                    return
        self._by_hash.setdefault(value, {})[number] = characters

    def kept(self) -> list[tuple[int, int, int]]:
        """Hash, number and characters of each candidate."""
        return [
            (value, number, characters)
            for value, equal in self._by_hash.items()
            for number, characters in equal.items()
        ]

    def choose(self, characters: float, num_documents: int) -> dict[int, int]:
        """Takes documents until they have so many characters, but never all documents."""
        chosen: dict[int, int] = {}
        size = 0
        for value in sorted(self._by_hash):
            equal = self._by_hash[value]
            if size >= characters or len(chosen) + len(equal) == num_documents:
                break
            chosen |= equal
            size += sum(equal.values())
        return chosen
