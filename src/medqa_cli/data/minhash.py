"""MinHash signatures of sets of hashes: how many of their numbers agree estimates the Jaccard similarity of two sets.

Broder 1997, "On the resemblance and containment of documents". The permutations are multiply-add modulo 2**32 with odd
factors (Dietzfelbinger et al. 1997, "A reliable randomized algorithm for the closest-pair problem"), on hashes that
are mixed already. Written here, as ``datasketch`` takes each hash through a Python list: twice the time, and 0.6 s for
the import of SciPy. Does not look for pairs: ``near_search`` does.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NUM_PERM = 200
SEED = 1
ITEMS_AT_A_TIME = 1024  # 0.8 MB of permuted hashes: they stay in the cache of the core


@functools.cache
def _permutations() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return factors and offsets, uint32, shape (``NUM_PERM``, 1). ``RandomState`` draws the same ones for ever."""
    import numpy as np

    factors, offsets = np.random.RandomState(SEED).randint(0, 1 << 32, size=(2, NUM_PERM, 1), dtype=np.uint32)
    return factors | np.uint32(1), offsets


def signature(items: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return the least hash of a set under each permutation.

    Args:
        items: hashes whose upper halves are well mixed, uint64, shape (n,) with n >= 1.

    Returns:
        uint32, shape (``NUM_PERM``,).
    """
    import numpy as np

    factors, offsets = _permutations()
    hashes = (items >> np.uint64(32)).astype(np.uint32)
    permuted = np.empty((NUM_PERM, min(len(hashes), ITEMS_AT_A_TIME)), dtype=np.uint32)
    least: NDArray[np.uint32] | None = None
    for start in range(0, len(hashes), ITEMS_AT_A_TIME):
        part = hashes[start : start + ITEMS_AT_A_TIME]
        some = permuted[:, : len(part)]
        np.multiply(factors, part, out=some)
        some += offsets
        found = some.min(axis=1)
        least = found if least is None else np.minimum(least, found)
    assert least is not None, "a set without items has no signature"
    return least
