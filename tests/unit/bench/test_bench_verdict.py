"""The benchmark of the verdict: what its sets are, and what it counts as true."""

from dataclasses import replace

import numpy as np
import pytest

from locheads.bench import bench_verdict as verdict
from locheads.pocket import dataset


@pytest.fixture(scope="module")
def record() -> dict:
    with pytest.MonkeyPatch.context() as patch:
        splits = {"train": (16, (3, 4)), "val": (40, (3, 4))}
        patch.setattr(dataset, "POCKET", replace(dataset.POCKET, splits=splits, digest=""))
        return verdict.benchmark(sets=12, images=(4, 12))


def test_every_set_is_judged_on_every_number_of_images(record: dict) -> None:
    assert len(record["rows"]) == 2 * 12
    few = [row for row in record["rows"] if row["n_images"] == 4]
    assert {row["follows"] for row in few} == {"unknown"}  # fewer than ten images tell nothing
    most = [row for row in record["rows"] if row["n_images"] == 12]
    assert "unknown" not in {row["follows"] for row in most}
    assert {row["kind"] for row in most} <= set(verdict.BANDS)
    for row in most:
        reached = [least for least in verdict.BANDS.values() if row["difference"] >= least]
        assert verdict.BANDS[row["kind"]] == max(reached)


def test_sets_whose_gap_is_large_point_at_what_is_named(record: dict) -> None:
    """On 12 images and 12 sets; `python -m locheads.bench verdict` has the figures."""
    assert record["correlation"] > 0.6
    most = [row for row in record["rows"] if row["n_images"] == 12]
    assert not any(row["follows"] == "follow" for row in most if row["kind"] == "does not")


def test_every_other_set_is_of_one_layer() -> None:
    class Identity:
        layers, heads = 4, 5

    class Setup:
        identity = Identity

    found = verdict._sets(Setup, 8, seed=0)  # type: ignore[arg-type]
    assert (found.sum(axis=(1, 2)) == verdict.K).all()
    assert all((one.sum(axis=1) > 0).sum() == 1 for one in found[::2])
    assert not np.array_equal(found[0], found[2])
