import numpy as np
import pytest

from medqa_cli.data import minhash
from medqa_cli.data.minhash import MISS_PROBABILITY, NUM_PERM, bands, signature


def overlapping_sets(shared: int, own: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of random hashes with ``shared`` items in common and ``own`` items each besides."""
    items = np.unique(np.random.default_rng(seed).integers(0, 2**64, size=shared + 2 * own, dtype=np.uint64))
    assert len(items) == shared + 2 * own
    items = np.random.default_rng(seed + 1).permutation(items)
    return np.sort(items[: shared + own]), np.sort(np.concatenate((items[:shared], items[shared + own :])))


@pytest.mark.parametrize(("shared", "own"), [(900, 50), (300, 300), (40, 5), (0, 200)])
def test_agreement_estimates_the_jaccard_similarity(shared: int, own: int) -> None:
    agreeing = []
    for seed in range(20):
        one, other = overlapping_sets(shared, own, seed)
        exact = len(np.intersect1d(one, other)) / len(np.union1d(one, other))
        agreeing.append(np.mean(signature(one) == signature(other)))
    deviation = (exact * (1 - exact) / (20 * NUM_PERM)) ** 0.5
    assert abs(np.mean(agreeing) - exact) <= 4 * deviation + 1e-3


def test_a_large_set_is_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    items, _ = overlapping_sets(2000, 1, 0)
    whole = signature(items)
    monkeypatch.setattr(minhash, "ITEMS_AT_A_TIME", 300)
    assert (signature(items) == whole).all()
    assert (whole == np.minimum(signature(items[:700]), signature(items[700:]))).all()


def test_signatures_are_the_same_everywhere() -> None:
    items = np.array([0x0123456789ABCDEF, 0xFEDCBA9876543210], dtype=np.uint64)
    assert signature(items)[:4].tolist() == EXPECTED


EXPECTED = [344273911, 238330878, 2508810859, 1165192814]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95])
def test_bands_are_the_longest_that_overlook_hardly_a_pair(threshold: float) -> None:
    def overlooked(rows: int) -> float:
        return (1 - threshold**rows) ** (NUM_PERM // rows)

    count, rows = bands(threshold)
    assert count == NUM_PERM // rows
    assert overlooked(rows) <= MISS_PROBABILITY < overlooked(rows + 1)


def test_bands_of_a_threshold_that_no_band_serves_have_one_row() -> None:
    assert bands(0.001) == (NUM_PERM, 1)
