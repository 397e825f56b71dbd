"""Letters: texts as vectors by the groups of letters that they share.

No model of language is asked. Each group of three or four letters is hashed to signs, and a text is
the mean of its groups: a random projection of how often each stands in it. It is the same on every
machine, and needs nothing but this file. Texts that share words lie near each other; what words
mean is not known.

Shapes: P texts, V numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

NUM_NUMBERS = 32  # a multiple of 8
GROUPS = (3, 4)  # letters


def text_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors (P, V) of length 1; that of a text without a letter is 0."""
    vector_PV = np.zeros((len(texts), NUM_NUMBERS))
    for row, text in enumerate(texts):
        for group in groups_of(text):
            vector_PV[row] += signs_of(group)
    length_P1 = np.linalg.norm(vector_PV, axis=1, keepdims=True)
    return (vector_PV / np.maximum(length_P1, 1e-12)).astype(np.float32)


def groups_of(text: str) -> Iterator[str]:
    """The groups of letters of a text, whose words have a blank on either side."""
    words = f" {' '.join(text.lower().split())} "
    if not words.strip():
        return
    for size in GROUPS:
        yield from (words[first : first + size] for first in range(len(words) - size + 1))


@lru_cache(maxsize=100_000)
def signs_of(group: str) -> NDArray[np.float64]:
    """The signs (V) of a group of letters."""
    digest = hashlib.blake2b(group.encode(), digest_size=NUM_NUMBERS // 8).digest()
    return np.unpackbits(np.frombuffer(digest, np.uint8)).astype(np.float64) * 2 - 1
