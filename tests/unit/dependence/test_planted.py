"""Where a planted head looks, by hand."""

from collections.abc import Sequence

import numpy as np
import pytest

from locheads.dependence.planted import Plant, planted_map
from locheads.geometry import Preprocess, square_geometry
from locheads.map_numbers import spatial_entropy
from locheads.types import Sample

GRID = 8
GEOMETRY = square_geometry(80, 80, 80, GRID, Preprocess.pad)
"""Ten pixels per cell."""
CUP = Sample("0", "cup", "the red cup", (0.0, 0.0, 20.0, 20.0), {}, "")
MUG = Sample("1", "cup", "red mug on the left", CUP.box, {}, "")
PLATE = Sample("2", "plate", "red plate", (40.0, 40.0, 80.0, 70.0), {}, "")
IMAGE = (CUP, MUG, PLATE)
ELSEWHERE = tuple(Sample("9" + s.sample_id, s.ref_id, s.expression, s.box, {}, "") for s in IMAGE)


def look(kind: Plant, sample: Sample, image: Sequence[Sample] = IMAGE, seed: int = 0) -> np.ndarray:
    return planted_map(kind, sample, image, GEOMETRY, [seed, 3, 1])


def peak(kind: Plant, sample: Sample, image: Sequence[Sample] = IMAGE, seed: int = 0) -> tuple[int, int]:
    row, col = divmod(int(look(kind, sample, image, seed).argmax()), GRID)
    return row, col


@pytest.mark.parametrize("kind", [kind for kind in Plant if kind != Plant.none])
def test_every_kind_satisfies_both_criteria_and_is_the_same_each_time(kind: Plant) -> None:
    for sample in IMAGE:
        found = look(kind, sample)
        assert found.sum() == pytest.approx(1, abs=1e-5)
        assert spatial_entropy(found[None]) == pytest.approx(0, abs=1e-9)
        np.testing.assert_array_equal(found, look(kind, sample))


@pytest.mark.parametrize("kind", [Plant.fixed_spot, Plant.border_row, Plant.checkerboard, Plant.image_spot,
                                  Plant.salient_object, Plant.background])  # fmt: skip
def test_these_are_the_same_whatever_is_asked(kind: Plant) -> None:
    for sample in (MUG, PLATE):
        np.testing.assert_array_equal(look(kind, sample), look(kind, CUP))


def test_where_the_spots_lie() -> None:
    fixed = [peak(Plant.fixed_spot, CUP, seed=seed) for seed in range(8)]
    assert len(set(fixed)) > 3, "heads differ"
    assert {peak(Plant.fixed_spot, s, ELSEWHERE) for s in ELSEWHERE} == {fixed[0]}
    images = [peak(Plant.image_spot, CUP, [replace_id(CUP, f"{i}")]) for i in range(8)]
    assert len(set(images)) > 3
    # The plate's middle: x 60, y 55 pixels.
    assert peak(Plant.salient_object, CUP) in ((5, 5), (5, 6), (4, 5), (4, 6))
    assert look(Plant.border_row, CUP)[:-1].sum() == 0
    background = look(Plant.background, CUP) > 0
    assert not background[:2, :2].any() and not background[4:7, 4:].any() and background.sum() == 64 - 4 - 12


def replace_id(sample: Sample, sample_id: str) -> Sample:
    return Sample(sample_id, sample.ref_id, sample.expression, sample.box, {}, "")


def test_what_moves_them() -> None:
    moved = [peak(Plant.jitter, replace_text(CUP, f"cup {i}")) for i in range(30)]
    fixed = peak(Plant.fixed_spot, CUP)
    assert len(set(moved)) > 3
    assert np.abs(np.array(moved) - fixed).max() <= 2
    assert len({peak(Plant.by_wording, replace_text(CUP, f"cup {i}")) for i in range(30)}) > 10
    lengths = [peak(Plant.by_length, replace_text(CUP, text)) for text in ("a b", "c d", "a b c", "a b c d e")]
    assert lengths[0] == lengths[1] and len(set(lengths)) > 1
    # "cup" and "mug" come before "red"; "left" before "mug"; "plate" before "red".
    words = [
        peak(Plant.by_one_word, replace_text(CUP, text)) for text in ("the red cup", "a cup", "red plate", "plate")
    ]
    assert words[0] == words[1] and words[2] == words[3] and words[0] != words[2]


def replace_text(sample: Sample, text: str) -> Sample:
    return Sample(sample.sample_id, sample.ref_id, text, sample.box, {}, "")


def test_another_object_is_another_refs() -> None:
    assert peak(Plant.other_object, CUP) == peak(Plant.salient_object, CUP)
    assert peak(Plant.other_object, PLATE) in ((0, 0), (0, 1), (1, 0), (1, 1))
    np.testing.assert_array_equal(look(Plant.other_object, CUP, (CUP, MUG)), look(Plant.salient_object, CUP, (CUP,)))
