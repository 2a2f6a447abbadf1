"""The geometry against the image processors that transformers ships: where does a white rectangle arrive?"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, LlavaConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from locheads.errors import ConfigError
from locheads.geometry import Geometry, Preprocess
from locheads.models.adapters.square_view import LlavaAdapter
from locheads.models.config import PromptConfig

SIDE, PATCH, GRID = 192, 16, 12
SIZES = [(192, 192), (300, 200), (200, 300), (640, 427), (427, 640), (500, 101), (101, 333), (97, 89), (640, 33)]
PROCESSORS = {
    "clip": CLIPImageProcessorPil(size={"shortest_edge": SIDE}),
    "llava that pads by itself": LlavaImageProcessorPil(do_pad=True),
}


def prepare(image: Image.Image, how: Preprocess, processor, images: object) -> tuple[torch.Tensor, Geometry]:
    parts = SimpleNamespace(tokenizer=processor.tokenizer, image_processor=images, image_token="<image>")
    config = LlavaConfig(vision_config=CLIPVisionConfig(image_size=SIDE, patch_size=PATCH), image_token_id=4)
    adapter = LlavaAdapter(parts, config, how)
    prepared = adapter.prepare(image, ["the circle"], PromptConfig())
    return prepared.tensors["pixel_values"][0], prepared.geometry


def white_box(width: int, height: int) -> tuple[int, int, int, int]:
    """Off the middle on both axes, so that a mirrored or shifted transform does not fit by luck."""
    return round(width * 0.3), round(height * 0.25), round(width * 0.6), round(height * 0.8)


def make_image(size: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size, (0, 0, 0))
    image.paste((255, 255, 255), white_box(*size))
    return image


def seen_in_cells(pixels: torch.Tensor, images: CLIPImageProcessorPil) -> np.ndarray:
    """Tight box of the pixels that are nearer to white than to the padding's grey, in cells."""
    values = pixels[0].numpy() * images.image_std[0] + images.image_mean[0]
    ys, xs = np.nonzero(values > 0.75)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / PATCH


@pytest.mark.parametrize("name", list(PROCESSORS))
@pytest.mark.parametrize("how", list(Preprocess))
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_rectangle_arrives_where_the_geometry_says(
    size: tuple[int, int], how: Preprocess, name: str, processor
) -> None:
    pixels, geometry = prepare(make_image(size), how, processor, PROCESSORS[name])
    assert pixels.shape == (3, SIDE, SIDE)
    expected = np.clip(geometry.to_cells(np.array(white_box(*size))), 0, GRID)
    # Two of the model's pixels of tolerance: an eighth of a patch.
    np.testing.assert_allclose(seen_in_cells(pixels, PROCESSORS[name]), expected, rtol=0, atol=2 / PATCH)


@pytest.mark.parametrize("how", list(Preprocess))
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (640, 427)], ids=str)
def test_the_geometry_of_another_preprocessing_does_not_fit(size: tuple[int, int], how: Preprocess, processor) -> None:
    images = PROCESSORS["clip"]
    seen = seen_in_cells(prepare(make_image(size), how, processor, images)[0], images)
    # This processor crops by itself.
    same = {Preprocess.native, Preprocess.center_crop}
    for other in set(Preprocess) - (same if how in same else {how}):
        wrong = prepare(make_image(size), other, processor, images)[1].to_cells(np.array(white_box(*size)))
        assert np.abs(np.clip(wrong, 0, GRID) - seen).max() > 0.5


@pytest.mark.parametrize("size", [(300, 200), (97, 89)], ids=str)
def test_center_crop_is_what_the_stock_clip_processor_does(size: tuple[int, int], processor) -> None:
    stock = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    expected = stock(make_image(size), return_tensors="pt")["pixel_values"][0]
    for images in PROCESSORS.values():
        found, _ = prepare(make_image(size), Preprocess.center_crop, processor, images)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(300, 200), (97, 89), (101, 333)], ids=str)
def test_pad_is_what_the_stock_llava_processor_does_with_padding(size: tuple[int, int], processor) -> None:
    square = {"height": SIDE, "width": SIDE}
    stock = LlavaImageProcessorPil(do_pad=True, size=square, do_center_crop=False)
    expected = stock(make_image(size), return_tensors="pt")["pixel_values"][0]
    for images in PROCESSORS.values():
        found, _ = prepare(make_image(size), Preprocess.pad, processor, images)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_the_bars_have_the_mean_colour(processor) -> None:
    pixels, _ = prepare(Image.new("RGB", (300, 100)), Preprocess.pad, processor, PROCESSORS["clip"])
    # int(mean * 255) is at most one grey level below the mean, which normalises to 0.
    assert pixels[:, :32].abs().max() < 1 / 255 / 0.26
    assert pixels[:, 80:112].max() < -1.0


@pytest.mark.parametrize(
    ("images", "same"),
    [
        (CLIPImageProcessorPil(size={"shortest_edge": SIDE}), Preprocess.center_crop),
        (LlavaImageProcessorPil(do_pad=True, do_center_crop=False), Preprocess.pad),
        (LlavaImageProcessorPil(do_pad=False, do_center_crop=False), Preprocess.squash),
    ],
    ids=["crops", "pads", "squashes"],
)
def test_native_is_what_the_processor_is_set_to(images: object, same: Preprocess, processor) -> None:
    found, geometry = prepare(make_image((300, 200)), Preprocess.native, processor, images)
    expected, its_geometry = prepare(make_image((300, 200)), same, processor, images)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert geometry == its_geometry


def test_native_refuses_a_crop_that_is_smaller_than_the_resized_image(processor) -> None:
    with pytest.raises(ConfigError, match="resizes to 256 pixels before it crops to 192"):
        prepare(make_image((30, 20)), Preprocess.native, processor, CLIPImageProcessorPil(size={"shortest_edge": 256}))


def test_the_last_pixels_of_a_tower_that_is_no_multiple_of_its_patch_lie_outside(processor) -> None:
    # 200 pixels and patches of 16: 12 of them see 192 pixels.
    vision = CLIPVisionConfig(image_size=200, patch_size=16)
    parts = SimpleNamespace(
        tokenizer=processor.tokenizer, image_processor=CLIPImageProcessorPil(), image_token="<image>"
    )
    adapter = LlavaAdapter(parts, LlavaConfig(vision_config=vision, image_token_id=4), Preprocess.squash)
    prepared = adapter.prepare(make_image((100, 100)), ["the circle"], PromptConfig())
    assert prepared.tensors["pixel_values"].shape == (1, 3, 200, 200)
    assert (prepared.geometry.rows, prepared.geometry.scale) == (12, (0.125, 0.125))
    assert prepared.geometry.window().tolist() == [0, 0, 96, 96]


def test_a_class_token_that_the_model_keeps_is_no_cell(processor) -> None:
    vision = CLIPVisionConfig(image_size=SIDE, patch_size=PATCH)
    config = LlavaConfig(vision_config=vision, image_token_id=4, vision_feature_select_strategy="full")
    parts = SimpleNamespace(tokenizer=processor.tokenizer, image_processor=PROCESSORS["clip"], image_token="<image>")
    prepared = LlavaAdapter(parts, config, Preprocess.pad).prepare(make_image((30, 20)), ["the circle"], PromptConfig())
    assert (prepared.prefix == 4).sum() == GRID**2 + 1
    first = int((prepared.prefix == 4).nonzero()[0])
    assert prepared.image_tokens.tolist() == list(range(first + 1, first + 1 + GRID**2))
