"""experiment=released_c0 and released_c1 against the authors' code: written anew here from its description, and on
what their own functions gave (beside the project, where that is there)."""

import dataclasses
import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from locheads.config import Config
from locheads.discovery.config import Threshold
from locheads.discovery.frequencies import discover, greedy_heads
from locheads.discovery.rank import elbow_index, elbow_threshold, rank_values
from locheads.discovery.scores import score
from locheads.geometry import Preprocess, square_geometry
from locheads.grounding.config import Border, Component, Padding, Rounding
from locheads.grounding.ground_maps import ground_maps
from locheads.map_numbers import EmptyMaps, Floor, Precision, Weighting
from locheads.pipeline.cli import composed
from locheads.types import Attention, Box, Grounding

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT.parent / "shared" / "golden"
LAYERS, HEADS, GRID, SIZE = 5, 6, 12, (97, 61)
EPS = 0.001

Kept = list[tuple[int, int, float]]
"""Layer, head, entropy; the best first."""


# ---- what the project's own way gives: composed settings -> scores -> ranking -> own heads -> box ----


@functools.cache
def bundle(name: str) -> Config:
    return composed(ROOT / "conf", [f"experiment={name}"])[0]


def ours(maps: np.ndarray, size: tuple[int, int], config: Config) -> tuple[Kept, list[tuple[int, int]], Grounding]:
    """-> (every head that the sample may choose, its own heads, what they ground)."""
    # Padded to a square, as the original LLaVA does.
    geometry = square_geometry(*size, 14 * maps.shape[-1], maps.shape[-1], Preprocess.pad)
    attention = Attention("p", ("s",), maps[None], maps[None].sum(axis=(-2, -1)), geometry)
    scores = score(attention, config.criterion)
    found = discover(scores, [np.array([0])], config.criterion)
    values = rank_values(scores, found.eligible, config.criterion)[0]
    order = [divmod(int(i), values.shape[1]) for i in np.argsort(values, axis=None, kind="stable")]
    kept = [(layer, head, float(values[layer, head])) for layer, head in order if np.isfinite(values[layer, head])]
    own = greedy_heads(scores, found, config.heads.k, config.criterion)["s"]
    return kept, [(h.layer, h.head) for h in own], ground_maps(attention.chosen(0, own), geometry, config.grounding)


# ---- the same, written from the description of the released code alone ----


def entropy(map_: np.ndarray, factor: int) -> float:
    """32 bits throughout: mean and total by torch, components by NumPy."""
    tensor = torch.tensor(map_)
    excess = torch.clamp(tensor - factor * tensor.mean(), min=0)
    total, cells = excess.sum().item(), excess.numpy()
    if total <= 0:
        return math.inf
    result = np.float32(0)
    for component in components(cells > np.float32(EPS)):
        share = cells[component].sum() / np.float32(total)
        result = result + share * np.log(share)
    return float(-result)


def components(cells: np.ndarray) -> list[np.ndarray]:
    left, found = {(int(r), int(c)) for r, c in np.argwhere(cells)}, []
    while left:
        stack, member = [min(left)], np.zeros(cells.shape, dtype=bool)
        left -= set(stack)
        while stack:
            r, c = stack.pop()
            member[r, c] = True
            near = {(r + dr, c + dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1)} & left
            left -= near
            stack += near
        found.append(member)
    return found


def elbow(sums: list[float]) -> tuple[int, int]:
    """-> (rank on the ascending curve, flat index) of the head farthest from the chord, by plain geometry."""
    order = sorted(range(len(sums)), key=lambda i: sums[i])
    curve, last = [sums[i] for i in order], len(sums) - 1
    slope = (curve[-1] - curve[0]) / last
    distances = [abs(y - curve[0] - slope * x) / math.hypot(1, slope) for x, y in enumerate(curve)]
    rank = max(range(len(sums)), key=lambda x: (distances[x], -x))
    return rank, order[rank]


def every_head(maps: np.ndarray) -> list[tuple[int, int]]:
    return [(layer, head) for layer in range(maps.shape[0]) for head in range(maps.shape[1])]


def sums_of(maps: np.ndarray) -> list[float]:
    return [float(maps[head].sum()) for head in every_head(maps)]


def c0(maps: np.ndarray, by_rank: bool = False) -> Kept:
    rank, index = elbow(sums_of(maps))
    least = rank if by_rank else index
    scored = [(*head, entropy(maps[head], 1)) for i, head in enumerate(every_head(maps)) if i >= least]
    return sorted((one for one in scored if math.isfinite(one[2])), key=lambda one: one[2])


def c1(maps: np.ndarray) -> Kept:
    sums = sums_of(maps)
    tau = sums[elbow(sums)[1]]
    heads = [
        (s, head, entropy(maps[head], 2), max(maps[head][-1]) > 0.05)
        for s, head in zip(sums, every_head(maps), strict=True)
    ]
    kept = [(*head, h) for s, head, h, low in heads if s >= tau and head[0] > 1 and not low and math.isfinite(h)]
    if not kept:
        kept = [(*head, h) for _, head, h, low in sorted(heads, key=lambda x: -x[0]) if not low][:1]
    return sorted(kept, key=lambda one: one[2])


def c1_fused(maps: np.ndarray, heads: list[tuple[int, int]]) -> np.ndarray:
    blur = np.zeros((GRID, GRID))
    weights = [math.exp(-(d**2) / 2) for d in range(-4, 5)]
    for i in range(GRID):
        for d, weight in zip(range(-4, 5), weights, strict=True):
            j = i + d
            blur[i, -1 - j if j < 0 else 2 * GRID - 1 - j if j >= GRID else j] += weight / sum(weights)
    return np.sum([blur @ maps[head].astype(np.float64) @ blur.T for head in heads], axis=0)


def c1_box(fused: np.ndarray, size: tuple[int, int]) -> Box:
    """xyxy in whole pixels, ends exclusive."""
    rows, cols = np.nonzero(fused > np.mean(fused))
    x, y = size[0] / GRID, size[1] / GRID
    first = int(cols.min() * x), int(rows.min() * y)
    past = int((cols.max() + 1) * x - 1) + 1, int((rows.max() + 1) * y - 1) + 1
    return float(first[0]), float(first[1]), float(past[0]), float(past[1])


# ---- maps ----


@functools.cache
def made(seed: int) -> np.ndarray:
    """Maps of one sample: heads of many sums; faint and even ones, single blots, and some that heed the bottom row."""
    rng = np.random.default_rng(seed)
    maps = rng.dirichlet(np.full(GRID * GRID, 0.15), LAYERS * HEADS).reshape(LAYERS, HEADS, GRID, GRID)
    for layer, head in every_head(maps):
        kind, own = rng.integers(6), maps[layer, head]
        if kind == 0:
            own[:] = 1 + 0.2 * rng.random(own.shape)  # even: no cell stands out
        elif kind <= 2:
            r, c = rng.integers(0, GRID - 4, 2)
            own[:] = 1e-5 * rng.random(own.shape)
            own[r : r + 4, c : c + 3] += rng.random((4, 3))  # one component
        elif kind == 3:
            own[-1, rng.integers(GRID)] += 0.5
        elif kind == 4:
            r, c = rng.integers(0, GRID - 2, 2)
            own[:] = 1
            own[r : r + 2, c : c + 2] = 2.3  # above twice the mean, by little
        own *= rng.beta(0.6, 2) / own.sum()
    if seed % 10 == 9:  # nothing but the first layers stands out
        maps[2:] = 0.05 / GRID**2
        maps[2:, :, -1, 0] = 0.06
    return maps.astype(np.float32)


SEEDS = range(40)


def same(found: Kept, expected: Kept) -> bool:
    return [one[:2] for one in found] == [one[:2] for one in expected] and np.allclose(
        [one[2] for one in found], [one[2] for one in expected], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_c0_ranks_as_the_released_code(seed: int) -> None:
    kept, _, _ = ours(made(seed), SIZE, bundle("released_c0"))
    assert same(kept, c0(made(seed)))


@pytest.mark.parametrize("seed", SEEDS)
def test_c1_keeps_ranks_and_grounds_as_the_released_code(seed: int) -> None:
    kept, own, found = ours(made(seed), SIZE, bundle("released_c1"))
    expected = c1(made(seed))
    if math.isfinite(expected[0][2]):
        assert same(kept, expected)
    assert own == [one[:2] for one in expected[:5]]
    fused = c1_fused(made(seed), own)
    np.testing.assert_allclose(found.heatmap, fused, rtol=1e-5)
    assert found.box == c1_box(fused, SIZE)


def test_the_made_maps_try_what_is_compared() -> None:
    """Else the tests above would prove little."""
    maps = [made(seed) for seed in SEEDS]
    assert any(one[2] == 0 for m in maps for one in c0(m))  # the empty map that scores best
    assert any(len(c1(m)) < 5 for m in maps)
    assert any(c1(m)[0][0] < 2 for m in maps)  # kept for its sum alone
    assert any((m[2:, :, -1] > 0.05).any() for m in maps)


def test_the_elbows_rank_in_place_of_its_index_gives_other_heads() -> None:
    """The reading of the bug that this project once had."""
    wrong = [not same(ours(made(s), SIZE, bundle("released_c0"))[0], c0(made(s), by_rank=True)) for s in SEEDS]
    assert sum(wrong) > len(wrong) / 2


CHANGES = {
    "released_c0": [
        {"threshold": Threshold.mean}, {"threshold": Threshold.per_sample}, {"floor": Floor.mean},
        {"floor": Floor.relu_2mean_eps}, {"weighting": Weighting.area}, {"empty_maps": EmptyMaps.never},
        {"precision": Precision.float64}, {"skip_layers": 2}, {"max_bottom_row": 0.05},
    ],
    "released_c1": [
        {"threshold": Threshold.mean}, {"floor": Floor.relu_mean_eps}, {"weighting": Weighting.area},
        {"empty_maps": EmptyMaps.never}, {"precision": Precision.float64}, {"skip_layers": 0},
        {"max_bottom_row": None}, {"min_keep": 0},
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "change"), [(name, change) for name, all_ in CHANGES.items() for change in all_])
def test_no_choice_of_the_criterion_is_without_effect(name: str, change: dict[str, Any]) -> None:
    config, expected = bundle(name), {"released_c0": c0, "released_c1": c1}[name]
    other = dataclasses.replace(config, criterion=dataclasses.replace(config.criterion, **change))
    assert any([k[:2] for k in _kept(made(s), other)] != [k[:2] for k in expected(made(s))] for s in SEEDS)


def _kept(maps: np.ndarray, config: Config) -> Kept:
    try:
        return ours(maps, SIZE, config)[0]
    except ValueError:  # no head at all, so nothing to ground
        return []


@pytest.mark.parametrize(
    "change",
    [
        {"border": Border.mirror},
        {"component": Component.largest_hull},
        {"padding": Padding.mapped},
        {"rounding": Rounding.none},
    ],
)
def test_no_choice_of_the_grounding_is_without_effect(change: dict[str, Any]) -> None:
    config = bundle("released_c1")
    other = dataclasses.replace(config, grounding=dataclasses.replace(config.grounding, **change))
    assert any(ours(made(s), SIZE, other)[2].box != ours(made(s), SIZE, config)[2].box for s in SEEDS)


def test_the_papers_window_is_another_than_c1s() -> None:
    """No box of these maps tells the two apart, but their sums do."""
    config = bundle("released_c1")
    other = dataclasses.replace(config, grounding=dataclasses.replace(config.grounding, kernel=7))
    _, own, found = ours(made(0), SIZE, other)
    assert np.abs(found.heatmap / c1_fused(made(0), own) - 1).max() > 1e-4


def test_c1_asks_as_the_released_code_does() -> None:
    for name in ("released_c0", "released_c1"):
        config = bundle(name)
        assert config.prompt.template.startswith("You are a helpful language and vision assistant.")
        assert config.prompt.template.endswith("using natural language.\n<image>\n{expression}")
        assert not config.prompt.chat
        assert config.criterion.candidates == 5
    assert (bundle("released_c1").heads.k, bundle("released_c1").discovery.trials) == (5, 10)


# ---- the authors' own functions ----


@pytest.fixture(scope="module")
def golden() -> list[tuple[np.ndarray, dict[str, Any]]]:
    if not (GOLDEN / "released_code.npz").exists():
        pytest.skip(f"{GOLDEN} with what the authors' own functions gave is not there")
    with np.load(GOLDEN / "released_code.npz") as arrays:
        maps = arrays["maps"]
    return list(zip(maps, json.loads((GOLDEN / "released_code.json").read_text())["samples"], strict=True))


def test_c0_equals_what_the_authors_functions_gave(golden: list) -> None:
    for maps, expected in golden:
        kept, own, _ = ours(maps, tuple(expected["image_size"]), bundle("released_c0"))
        assert elbow_index(maps.sum(axis=(-2, -1))) == expected["c0_threshold_head_index"]
        values = {(layer, head): h for layer, head, h in kept}
        for (layer, head), h in np.ndenumerate(np.array(expected["c0_entropy"], dtype=float)):
            assert (layer, head) not in values if np.isnan(h) else abs(values.pop((layer, head)) - h) <= 1e-6
        assert not values
        assert [list(one[:2]) for one in kept[:5]] == expected["c0_top5"]
        assert own == [one[:2] for one in kept[:3]]


def test_c1_equals_what_the_authors_functions_gave(golden: list) -> None:
    for maps, expected in golden:
        kept, own, found = ours(maps, tuple(expected["image_size"]), bundle("released_c1"))
        assert elbow_threshold(maps.sum(axis=(-2, -1))) == pytest.approx(expected["c1_threshold"], abs=1e-7)
        assert same(kept, [tuple(one) for one in expected["c1_kept"]])
        assert [list(one) for one in own] == expected["c1_top5"]
        x0, y0, x1, y1 = found.box
        assert [x0, y0, x1 - 1, y1 - 1] == expected["c1_pixel_box_inclusive"]


def test_maps_without_a_component_were_the_best_to_the_authors_and_are_never_chosen_here(golden: list) -> None:
    config = bundle("released_c0")
    never = dataclasses.replace(config, criterion=dataclasses.replace(config.criterion, empty_maps=EmptyMaps.never))
    differing = [[list(one[:2]) for one in _kept(maps, never)[:5]] != expected["c0_top5"] for maps, expected in golden]
    assert sum(differing) > len(golden) / 2
