"""Segmenters without weights, bad prompts, and masks in the rows of predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from sam_parts import make_image

from locheads.evaluation.segmented import NO_MEMORY, segment_rows
from locheads.models.engine import EngineConfig
from locheads.segmenters.config import SegmenterConfig, SegmenterKind
from locheads.segmenters.load_segmenter import load_segmenter, segmenter_identity
from locheads.segmenters.segmenter import BoxSegmenter, GrabCutSegmenter, Prompt, Segmentation, box_mask
from locheads.types import ImageGroup


def test_a_filled_box_is_its_pixels() -> None:
    (found,) = BoxSegmenter().segment(make_image(), [Prompt((10.4, 20.6, 30.5, 25.0))])
    expected = np.zeros((110, 150), dtype=bool)
    expected[21:25, 10:30] = True  # pixels whose centres lie in the box
    np.testing.assert_array_equal(found.mask, expected)


def test_grabcut_finds_the_disc_in_its_box_and_repeats_itself() -> None:
    image = make_image()
    y, x = np.mgrid[:110, :150]
    disc = (x - 67.5) ** 2 + (y - 55) ** 2 < 27.5**2
    prompt = Prompt((35.0, 22.0, 100.0, 88.0))
    first, second = (GrabCutSegmenter().segment(image, [prompt])[0].mask for _ in range(2))
    np.testing.assert_array_equal(first, second)
    filled = box_mask(prompt.box, 150, 110)
    iou = (first & disc).sum() / (first | disc).sum()
    assert iou > 0.9 > (filled & disc).sum() / (filled | disc).sum()
    assert not (first & ~filled).any()


@pytest.mark.parametrize("box", [(0.0, 0.0, 150.0, 110.0), (5.0, 5.0, 5.4, 5.4), (10.0, 10.0, 11.0, 11.0)])
def test_grabcut_without_an_outside_or_an_inside_keeps_the_box(box: tuple[float, float, float, float]) -> None:
    (found,) = GrabCutSegmenter().segment(make_image(), [Prompt(box)])
    np.testing.assert_array_equal(found.mask, box_mask(box, 150, 110))


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (9, 5, 5, 9), (0, 0, float("nan"), 3)])
def test_a_box_without_area_is_refused(box: Any) -> None:
    with pytest.raises(ValueError, match="its box has no area"):
        Prompt(box)


def row(**changes: Any) -> dict[str, Any]:
    mask = np.zeros((110, 150), dtype=np.uint8, order="F")
    mask[30:60, 40:80] = 1
    base = {
        "x0": 40.0, "y0": 30.0, "x1": 80.0, "y1": 60.0, "peak_x": 50.0, "peak_y": 40.0, "error": None,
        "mask_counts": coco.encode(mask)["counts"].decode(), "mask_height": 110, "mask_width": 150,
    }  # fmt: skip
    return base | changes


@pytest.fixture
def group(tmp_path: Path) -> ImageGroup:
    make_image().save(tmp_path / "a.png")
    return ImageGroup("1", tmp_path / "a.png", 150, 110, ())


class Recording:
    """Fills the lower half of the box, and remembers what it was asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[list[Prompt]] = []
        self.error = error

    def segment(self, image: Image.Image, prompts: Any) -> list[Segmentation]:
        self.asked.append(list(prompts))
        if self.error:
            raise self.error
        halves = [(p.box[0], (p.box[1] + p.box[3]) / 2, p.box[2], p.box[3]) for p in prompts]
        return [Segmentation(box_mask(half, image.width, image.height), 0.5) for half in halves]


def test_one_call_per_image_with_all_its_rows(group: ImageGroup) -> None:
    segmenter = Recording()
    nothing = row(x0=None, y0=None, x1=None, y1=None, mask_counts=None, peak_x=None, peak_y=None)
    rows = segment_rows([row(), nothing, row(x1=90.0)], group, segmenter, SegmenterConfig())
    ((first, second),) = segmenter.asked
    assert first.point == (50.0, 40.0) and first.mask is not None and first.mask.sum() == 1200
    assert second.box == (40.0, 30.0, 90.0, 60.0)
    assert [r["mask_score"] for r in rows] == [0.5, None, 0.5]
    assert coco.area({"size": [110, 150], "counts": rows[0]["mask_counts"]}) == 600
    assert rows[1] == nothing | {"mask_score": None, "asked": None}
    assert (rows[0]["y0"], rows[0]["error"]) == (30.0, None)


def test_the_box_follows_the_mask_only_where_that_is_asked(group: ImageGroup) -> None:
    (kept,) = segment_rows([row()], group, Recording(), SegmenterConfig())
    (moved,) = segment_rows([row()], group, Recording(), SegmenterConfig(box=True))
    assert [kept[key] for key in ("x0", "y0", "x1", "y1")] == [40, 30, 80, 60]
    assert [moved[key] for key in ("x0", "y0", "x1", "y1")] == [40, 45, 80, 60]


def test_what_fails_is_recorded_and_keeps_its_box(group: ImageGroup) -> None:
    for error in (MemoryError(), RuntimeError("CUDA out of memory"), RuntimeError("can't allocate memory: 99 GB")):
        flat, fine = segment_rows([row(y1=30.0), row()], group, Recording(error), SegmenterConfig())
        assert "its box has no area" in flat["error"]
        assert fine["error"] == f"no mask: {NO_MEMORY}"
        assert fine["mask_counts"] is None and fine["x0"] == 40
    absent = ImageGroup("1", group.path.with_name("b.png"), 150, 110, ())
    assert "is not there" in segment_rows([row()], absent, Recording(), SegmenterConfig())[0]["error"]


def test_an_image_larger_than_is_safe_to_decode_is_recorded(group: ImageGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    (found,) = segment_rows([row()], group, BoxSegmenter(), SegmenterConfig())
    assert "more pixels than is safe to decode" in found["error"]


def test_a_bug_is_not_a_failed_sample(group: ImageGroup) -> None:
    with pytest.raises(RuntimeError, match="shapes do not match"):
        segment_rows([row()], group, Recording(RuntimeError("shapes do not match")), SegmenterConfig())


def test_no_segmenter_is_none_and_only_what_changes_masks_identifies_one(tmp_path: Path) -> None:
    assert load_segmenter(SegmenterConfig(), EngineConfig()) is None
    assert segmenter_identity(SegmenterConfig(batch=3)) == segmenter_identity(SegmenterConfig()) == {}
    path = tmp_path / "sam.pth"
    path.write_bytes(b"one")
    config = SegmenterConfig(kind=SegmenterKind.sam_hf, checkpoint=str(path))
    first = segmenter_identity(config)
    (tmp_path / "copy").mkdir()
    moved = path.rename(tmp_path / "copy" / "sam.pth")
    assert segmenter_identity(SegmenterConfig(kind=SegmenterKind.sam_hf, checkpoint=str(moved), batch=1)) == first
    moved.write_bytes(b"two")
    assert segmenter_identity(SegmenterConfig(kind=SegmenterKind.sam_hf, checkpoint=str(moved))) != first
