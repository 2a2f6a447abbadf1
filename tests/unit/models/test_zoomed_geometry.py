"""A part of an image through real processors and back: a rectangle that is painted in the image comes back from what
the vision tower is given of the part, to less than a patch; with a part that begins elsewhere it does not."""

import numpy as np
import pytest
from PIL import Image
from test_families import adapter
from test_families_geometry import CELL, PROMPT, bounds, first, view

from locheads.geometry import Preprocess
from locheads.grounding.zoom import moved, seen_in

KINDS = [
    ("llava", Preprocess.pad),
    ("llava", Preprocess.center_crop),
    ("llava", Preprocess.squash),
    ("llava_next", Preprocess.native),
    ("internvl", Preprocess.native),
    ("qwen2_5_vl", Preprocess.native),
    ("gemma3", Preprocess.native),
]
CASES = 25


def random_case(rng: np.random.Generator) -> tuple[tuple[int, int], tuple[int, ...], tuple[int, ...]]:
    """(size of an image, a part of it, a rectangle in the middle of the part, which no crop of a processor cuts)."""
    size = tuple(int(n) for n in rng.integers(120, 300, size=2))
    part = [int(n) for n in rng.integers(60, 100, size=2)]
    corner = [int(rng.integers(0, whole - own + 1)) for whole, own in zip(size, part, strict=True)]
    view_ = (*corner, corner[0] + part[0], corner[1] + part[1])
    low = [corner[i] + int(part[i] * rng.uniform(0.3, 0.4)) for i in (0, 1)]
    high = [corner[i] + int(part[i] * rng.uniform(0.6, 0.7)) for i in (0, 1)]
    return size, view_, (*low, *high)


@pytest.mark.parametrize(("name", "how"), KINDS)
def test_a_painted_rectangle_comes_back_within_a_patch(name: str, how: Preprocess) -> None:
    rng, ours = np.random.default_rng([3, len(name)]), adapter(name, how)
    images, cell = ours.processor.image_processor, CELL.get(name, 8)
    for _ in range(CASES):
        size, part, rectangle = random_case(rng)
        image = Image.new("RGB", size, (0, 0, 0))
        image.paste((255, 255, 255), rectangle)
        prepared = ours.prepare(image.crop(part), ["cup"], PROMPT)
        levels = view(name, prepared).numpy() * first(images.image_std) + first(images.image_mean)
        found = bounds(levels > 0.75 * 255 * images.rescale_factor) / cell
        patch = 1 / np.array(prepared.geometry.scale * 2)
        for back in (
            np.array(moved(tuple(prepared.geometry.to_pixels(found).tolist()), part)),
            seen_in(prepared.geometry, part, *size).to_pixels(found),
        ):
            away = np.abs(back - np.array(rectangle)) / patch
            assert away.max() < 0.3, (size, part, rectangle, back)
        # Negative control: the way back from a part that begins two patches further on.
        beside = np.array(part) + np.ceil(2 * np.tile(patch[:2], 2)).astype(int)
        wrong = np.array(moved(tuple(prepared.geometry.to_pixels(found).tolist()), tuple(beside.tolist())))
        assert (np.abs(wrong - np.array(rectangle)) / patch).min() > 1
