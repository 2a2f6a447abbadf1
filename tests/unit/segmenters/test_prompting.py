"""What SAM is asked about an answer, against plain loops from the definitions."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from pycocotools import mask as coco

from locheads.errors import ConfigError
from locheads.evaluation.prompt_shares import asked_shares, prompt_shares
from locheads.geometry import Geometry, Preprocess, square_geometry
from locheads.segmenters.config import MaskChoice, Negatives, PointRule, PromptKind, SegmenterConfig
from locheads.segmenters.prompting import FusedMap, asked_again, grown, high_cells, inner_points, low_cells, prompt_of
from locheads.segmenters.segmenter import Prompt
from locheads.types import ImageGroup, Sample

CONF = Path(__file__).parents[3] / "conf" / "segmenter"
BARS = square_geometry(120, 60, 168, 12, Preprocess.pad)
"""Three rows of cells above the image and three below lie on bars."""


def blobs(seed: int, height: int = 23, width: int = 31) -> np.ndarray:
    """A mask of several parts with holes, some of them at the edge."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    for _ in range(4):
        y, x, h, w = rng.integers(0, (height, width, 9, 11))
        mask[y : y + h + 1, x : x + w + 1] ^= True
    return mask


def inner_by_loops(mask: np.ndarray, n: int) -> list[tuple[float, float]]:
    height, width = mask.shape
    outside = [
        (y, x)
        for y in range(-1, height + 1)
        for x in range(-1, width + 1)
        if not (0 <= y < height and 0 <= x < width and mask[y, x])
    ]
    found: list[tuple[int, int]] = []
    for _ in range(n):
        best, best_room = None, 0
        for y in range(height):
            for x in range(width):
                room = min((y - v) ** 2 + (x - u) ** 2 for v, u in (*outside, *found))
                if room > best_room:
                    best, best_room = (y, x), room
        if best is None:
            break
        found.append(best)
    return [(x + 0.5, y + 0.5) for y, x in found]


@pytest.mark.parametrize("seed", range(6))
def test_inner_points_are_those_of_a_loop_over_all_pixels(seed: int) -> None:
    mask = blobs(seed, 13, 17)
    found = inner_points(mask, 5)
    assert list(found) == inner_by_loops(mask, 5)
    assert len(found) == 5 and all(mask[int(y), int(x)] for x, y in found)


def test_inner_points_by_hand() -> None:
    bar = np.zeros((7, 20), bool)
    bar[1:6, 2:17] = True  # 5 x 15 pixels: the middle row is 3 from the outside, from the third pixel on
    assert inner_points(bar, 3) == ((4.5, 3.5), (7.5, 3.5), (10.5, 3.5))
    half = np.zeros((9, 9), bool)
    half[:, :4] = True  # were the edge no border, it would be the corner
    assert inner_points(half, 1) == ((1.5, 1.5),)
    dot = np.zeros((4, 4), bool)
    dot[2, 1] = True
    assert inner_points(dot, 5) == ((1.5, 2.5),)
    assert inner_points(np.zeros((4, 4), bool), 5) == inner_points(np.zeros((0, 3), bool), 5) == ()


def cells_by_loops(values: np.ndarray, geometry: Geometry) -> Iterator[tuple[float, tuple[float, float]]]:
    """(weight, centre) of the cells whose centre lies in the image, in reading order."""
    for row in range(geometry.rows):
        for col in range(geometry.cols):
            x0, y0, x1, y1 = geometry.to_pixels(np.array([col, row, col + 1, row + 1]))
            x, y = (x0 + x1) / 2, (y0 + y1) / 2
            if 0 <= x < geometry.width and 0 <= y < geometry.height:
                yield values[row, col], (x, y)


@pytest.mark.parametrize("how", [Preprocess.pad, Preprocess.center_crop, Preprocess.squash])
def test_high_and_low_cells_are_those_of_a_loop(how: Preprocess) -> None:
    geometry = square_geometry(120, 60, 168, 12, how)
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.random((12, 12)) ** 0.2  # many are high
        fused, cells = FusedMap(values, geometry), list(cells_by_loops(values, geometry))
        low, high = min(cells)[0], max(cells)[0]
        strong = sorted((-w, c) for w, c in cells if w >= low + 0.9 * (high - low))[: len(cells) // 2]
        np.testing.assert_allclose(high_cells(fused), [c for _, c in strong], atol=1e-9)
        np.testing.assert_allclose(low_cells(fused, 7), [c for _, c in sorted(cells)[:7]], atol=1e-9)


def test_no_point_lies_on_a_bar_and_half_of_the_cells_are_high_at_most() -> None:
    values = np.ones((12, 12))
    values[6, 6] = 0.0  # all others are high
    fused = FusedMap(values, BARS)
    assert len(high_cells(fused)) == 36  # of 6 rows x 12
    values[:3] = values[9:] = -1.0  # the bars are the lowest of all
    assert low_cells(FusedMap(values, BARS), 1) == ((65.0, 35.0),)
    assert high_cells(FusedMap(np.ones((12, 12)), BARS)) == ()


def test_a_box_grows_on_each_side_and_ends_with_the_image() -> None:
    assert grown((10.0, 20.0, 30.0, 60.0), (100, 100), 0.1) == (8.0, 16.0, 32.0, 64.0)
    assert grown((10.0, 20.0, 30.0, 60.0), (100, 100), 0.1, 1.0) == (7.0, 15.0, 33.0, 65.0)
    assert grown((1.0, 0.0, 99.5, 60.0), (100, 61), 0.0, 2.0) == (0.0, 0.0, 100.0, 61.0)
    box = (-3.0, 0.0, 999.0, 5.0)
    assert grown(box, (100, 100), 0.0) is box  # without a margin nothing is touched


def test_the_next_round_asks_with_the_box_of_the_mask() -> None:
    mask = np.zeros((50, 80), bool)
    mask[10:20, 30:50] = True
    prompt = Prompt((1.0, 1.0, 9.0, 9.0), (4.0, 4.0), points=((5.0, 5.0),), negatives=((70.0, 1.0),))
    again = asked_again(prompt, mask, 0.1)
    assert again.box == (28.0, 9.0, 52.0, 21.0) and again.again
    assert (again.points, again.negatives) == (prompt.points, prompt.negatives)


def config(**changes: object) -> SegmenterConfig:
    return SegmenterConfig(**{"kind": "box", "prompt": PromptKind.box_point} | changes)  # type: ignore[arg-type]


def test_each_rule_gives_its_points_and_the_peak_stands_in_for_what_is_not_there() -> None:
    mask = np.zeros((60, 120), bool)
    mask[10:30, 20:60] = True
    mask[40:60, 90:120] = True  # another component, outside the box
    values = np.zeros((12, 12))
    values[5, 3:5] = 1.0
    box, peak, fused = (20.0, 10.0, 60.0, 30.0), (44.0, 21.0), FusedMap(values, BARS)
    given = (box, (120, 60), peak, mask, fused)
    assert prompt_of(config(), *given).points == (peak,)
    inner = prompt_of(config(points=PointRule.inner, n_points=3), *given)
    assert inner.points == tuple((x + 20, y + 10) for x, y in inner_by_loops(np.ones((20, 40), bool), 3))
    high = prompt_of(config(points=PointRule.high, negatives=Negatives.lowest, margin=0.5), *given)
    assert high.points == ((35.0, 25.0), (45.0, 25.0)) and high.negatives == ((5.0, 5.0), (15.0, 5.0))
    assert high.box == (0.0, 0.0, 80.0, 40.0)
    for rule in PointRule:
        alone = prompt_of(config(points=rule, negatives=Negatives.lowest), box, (120, 60), peak)
        assert (alone.points, alone.negatives) == ((peak,), ())
        assert prompt_of(config(points=rule), box, (120, 60)).points == ((40.0, 20.0),)  # the box's centre
    plain = prompt_of(config(prompt=PromptKind.box), *given)
    assert (plain.points, plain.negatives, plain.box) == ((), (), box)


def test_the_share_of_points_in_the_true_mask_is_that_of_a_loop() -> None:
    rng, rows, samples, expected = np.random.default_rng(0), [], [], []
    for i in range(40):
        true = np.asfortranarray(rng.random((60, 120)) < 0.3, dtype=np.uint8)
        code = coco.encode(true)
        code = {**code, "counts": code["counts"].decode()}
        samples.append(Sample(str(i), str(i), "it", (0.0, 0.0, 1.0, 1.0), code, ""))
        n = int(rng.integers(1, 6))
        points = [tuple(p) for p in (rng.random((n, 2)) * (120, 60)).tolist()]
        negatives = [tuple(p) for p in (rng.random((n, 2)) * (120, 60)).tolist()]
        asked = None if i % 10 == 9 else Prompt((0.0, 0.0, 9.0, 9.0), points=tuple(points), negatives=tuple(negatives))
        method = "centre_box" if i % 10 == 8 else "localization_heads"
        rows.append({"sample_id": str(i), "method": method, "asked": asked})
        inside = sum(true[math.floor(y), math.floor(x)] for x, y in points) / n
        beside = sum(1 - true[math.floor(y), math.floor(x)] for x, y in negatives) / n
        expected.append((0.0, 0.0) if asked is None else (inside, math.nan if method == "centre_box" else beside))
    groups = [ImageGroup("1", None, 120, 60, tuple(samples))]  # type: ignore[arg-type]
    found = prompt_shares(rows, groups, config(points=PointRule.inner, negatives=Negatives.lowest))
    np.testing.assert_allclose(np.stack([found["points_inside"], found["points_beside"]], axis=1), expected, atol=1e-12)
    assert found["points_inside"].std() > 0.1
    assert asked_shares(config(prompt=PromptKind.points)) == ("points_inside",)
    assert set(prompt_shares(rows, groups, config(prompt=PromptKind.box))) == {"box_covers", "asked_box_iou"}


@pytest.mark.parametrize("name", ["flmm", "groundlmm", "gensam", "pinpoint"])
def test_a_recipe_is_a_file_of_settings_that_are_taken(name: str) -> None:
    found = SegmenterConfig(**yaml.safe_load((CONF / f"{name}.yaml").read_text()))
    box, size, peak = (20.0, 10.0, 60.0, 30.0), (120, 60), (44.0, 21.0)
    mask = np.ones((60, 120), bool)
    prompt = prompt_of(found, box, size, peak, mask, FusedMap(np.random.default_rng(1).random((12, 12)), BARS))
    expected = {
        "flmm": ((19.0, 9.0, 61.0, 31.0), 0, 0, 1),
        "groundlmm": (box, 1, 0, 1),
        "gensam": (box, len(prompt.negatives), len(prompt.points), 2),
        "pinpoint": (box, 5, 0, 1),
    }
    assert (prompt.box, len(prompt.points), len(prompt.negatives), found.rounds) == expected[name]
    assert name != "gensam" or len(prompt.points) > 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prompt": PromptKind.box, "points": PointRule.inner}, r"segmenter\.points=inner is for prompts with points"),
        ({"prompt": PromptKind.mask, "negatives": Negatives.lowest}, r"segmenter\.negatives=lowest is for prompts"),
        ({"choice": MaskChoice.last}, r"choice=last chooses among several masks: set segmenter\.multimask=true"),
        ({"prompt": PromptKind.points, "margin": 0.1}, r"widen the box, and segmenter\.prompt=points asks without one"),
        ({"margin": -0.1}, r"segmenter\.margin must lie between 0 and 10"),
        ({"rounds": 0}, r"segmenter\.rounds must lie between 1 and 10"),
        ({"n_points": 0}, r"segmenter\.n_points must lie between 1 and 100"),
    ],
)
def test_what_nothing_would_read_is_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        config(**changes)
