"""Every family: its adapter does what the family's own processor does, and a real model takes what it prepares."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILY_BUILDERS
from family_parts import CONTEXT, in_full_precision, token_id
from PIL import Image
from torch import Tensor

from locheads.errors import ConfigError, DataError, ModelError
from locheads.geometry import Preprocess
from locheads.models.adapters import FAMILIES, PreparedInput, Sharing
from locheads.models.adapters.family import FamilyAdapter
from locheads.models.config import PromptConfig, Query
from locheads.models.verification.stock_prompt import stock_inputs

PLAIN = PromptConfig(template="look <image>\n{expression}")
CHAT = PromptConfig(template="Where is {expression} in the image?", full_stop=False, chat=True)
SIZES = [(130, 70), (40, 100), (64, 64), (33, 31), (300, 40)]
TOLERANCE = 2e-5

families = pytest.mark.parametrize("name", list(FAMILY_BUILDERS))
WITHOUT_CHAT = ("paligemma", "paligemma2", "got_ocr2", "fuyu", "chameleon")
ENDINGS = {"paligemma": "\n", "paligemma2": "\n", "fuyu": "<0x04>", "chameleon": "<im_end>"}
"""What the family's processor ends every prompt in."""
chatting = pytest.mark.parametrize("name", [name for name in FAMILY_BUILDERS if name not in WITHOUT_CHAT])
TILED = sorted(
    {"llava_next", "llava_onevision", "internvl", "aya_vision", "cohere2_vision", "llama4", "perception_lm", "molmo2",
     "ovis2", "idefics3", "smolvlm", "lfm2_vl"} & set(FAMILY_BUILDERS)
)  # fmt: skip
tiled = pytest.mark.parametrize("name", TILED)
three_dimensional = {name for name in FAMILY_BUILDERS if name.startswith(("qwen", "glm4", "ernie"))}


@cache
def family(name: str) -> tuple[Any, Any]:
    return FAMILY_BUILDERS[name]()


def adapter(name: str, how: Preprocess = Preprocess.native, tiles: bool = False) -> FamilyAdapter:
    model, processor = family(name)
    return FAMILIES[model.config.model_type](processor, model.config, how, tiles)


def noise(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def sequence(prepared: PreparedInput, i: int = 0) -> dict[str, Tensor]:
    """What the model's forward takes for the i-th prompt alone."""
    suffix = prepared.suffixes[i]
    inputs = {"input_ids": torch.cat([prepared.prefix, suffix])[None], **in_full_precision(prepared.tensors)}
    if prepared.prefix_positions is not None:
        start = int(prepared.prefix_positions.max()) + 1
        after = torch.arange(start, start + len(suffix)).expand(3, -1)
        inputs["position_ids"] = torch.cat([prepared.prefix_positions, after], dim=1)[:, None]
    if prepared.token_types is not None:
        inputs[prepared.token_types_name] = torch.cat([prepared.token_types, torch.zeros_like(suffix)])[None]
    return inputs


@pytest.mark.parametrize("size", SIZES, ids=str)
@families
def test_tokens_and_tensors_are_those_of_the_stock_processor(name: str, size: tuple[int, int]) -> None:
    ours, image = adapter(name), noise(size)
    prepared = ours.prepare(image, ["the red cup", "a (b)"], PLAIN)
    for i, expression in enumerate(["the red cup", "a (b)"]):
        stock = stock_inputs(ours, image, PLAIN, expression)
        assert sequence(prepared, i)["input_ids"].tolist() == stock["input_ids"].tolist()
    assert prepared.tensors.keys() == stock.keys() - {
        "input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids", "labels"
    }  # fmt: skip
    for key, value in prepared.tensors.items():
        torch.testing.assert_close(value, stock[key], rtol=0, atol=0)
    if prepared.token_types is not None:
        types = prepared.token_types_name
        assert sequence(prepared, 1)[types].tolist() == stock[types].tolist()


@pytest.mark.parametrize("name", WITHOUT_CHAT)
def test_a_model_without_a_chat_template_says_so(name: str) -> None:
    with pytest.raises(ConfigError, match=r"has none .*choose prompt=referseg or prompt=bare"):
        adapter(name).prepare(noise((20, 20)), ["cup"], CHAT)


@families
def test_image_tokens_are_the_grid_and_the_suffixes_hold_none(name: str) -> None:
    model, _ = family(name)
    for size in SIZES:
        prepared = adapter(name).prepare(noise(size), ["the red cup", "circle"], PLAIN)
        geometry = prepared.geometry
        assert (geometry.width, geometry.height) == size
        assert len(prepared.image_tokens) == geometry.rows * geometry.cols > 1
        assert set(prepared.prefix[prepared.image_tokens].tolist()) == {model.config.image_token_id}
        assert prepared.prefix[-1 - adapter(name).after_image] == model.config.image_token_id
        assert all(model.config.image_token_id not in suffix for suffix in prepared.suffixes)
        assert (prepared.image_tokens.diff() > 0).all()


@pytest.mark.parametrize("name", sorted(three_dimensional))
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_positions_are_the_models_own(name: str, size: tuple[int, int]) -> None:
    model, processor = family(name)
    found = sequence(adapter(name).prepare(noise(size), ["the red cup"], PLAIN))
    image = adapter(name).wrapping.format(processor.image_token)
    stock = processor(images=noise(size), text=f"look {image}\nthe red cup.", return_tensors="pt")
    types = {key: value for key, value in stock.items() if key == "mm_token_type_ids"}
    expected, _ = model.base_model.get_rope_index(stock["input_ids"], image_grid_thw=stock["image_grid_thw"], **types)
    assert found["position_ids"].tolist() == expected.tolist()


@torch.inference_mode()
def eager_rows(name: str, inputs: dict[str, Tensor]) -> Tensor:
    """-> [layer, head, query, key], from transformers' own eager attention on the same weights."""
    model = FAMILY_BUILDERS[name]()[0]
    model.set_attn_implementation("eager")
    return torch.stack(model.base_model(**inputs, use_cache=False, output_attentions=True).attentions)[:, 0]


@families
def test_declared_sharing(name: str) -> None:
    plain = (
        "aya_vision",
        "cohere2_vision",
        "llama4",
        "molmo2",
        "gemma3",
        "gemma3n",
        "gemma4",
        "paligemma",
        "paligemma2",
        "lfm2_vl",
    )
    assert adapter(name).sharing is (Sharing.plain if name in plain else Sharing.packed)


def test_a_sliding_window_makes_a_family_plain() -> None:
    model, processor = FAMILY_BUILDERS["mistral3"]()
    model.config.text_config.sliding_window = 64
    assert FAMILIES["mistral3"](processor, model.config, Preprocess.native).sharing is Sharing.plain
    assert FAMILIES["mistral3"].sharing is Sharing.packed


@families
@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query.last, lambda name: ENDINGS.get(name, ".")),
        (Query.expression_last, lambda name: "circle"),
        (Query.expression_mean, lambda name: "red circle"),
    ],
)
def test_query_spans(name: str, query: Query, found: Callable[[str], str]) -> None:
    _, processor = family(name)
    prompt = PromptConfig(template="look <image> {expression} or {expression}", query=query)
    prepared = adapter(name).prepare(noise((64, 64)), ["circle", "red circle"], prompt)
    first, end = prepared.spans[1]
    assert processor.tokenizer.decode(prepared.suffixes[1][first:end]).lstrip(" ") == found(name)
    # The last of the two: only its full stop follows it.
    assert end >= len(prepared.suffixes[1]) - (2 if name in ENDINGS else 1)


@chatting
def test_query_spans_inside_a_chat(name: str) -> None:
    _, processor = family(name)
    prompt = PromptConfig(template=" Where is {expression} in the image?", full_stop=False, chat=True)
    for query, text in ((Query.expression_mean, "the red circle"), (Query.expression_last, "circle")):
        prompt.query = query
        prepared = adapter(name).prepare(noise((64, 64)), ["box", "the red circle"], prompt)
        first, end = prepared.spans[1]
        assert processor.tokenizer.decode(prepared.suffixes[1][first:end]).strip() == text


@families
def test_bad_expressions_and_images(name: str) -> None:
    _, processor = family(name)
    ours, image = adapter(name), noise((20, 20))
    with pytest.raises(DataError, match="expression is empty"):
        ours.prepare(image, ["cup", " "], PLAIN)
    with pytest.raises(DataError, match=r"which stands for the image"):
        ours.prepare(image, [f"the {processor.image_token} cup"], PLAIN)
    with pytest.raises(DataError, match=rf"'xyxyxy.*has \d{{4,5}} tokens, and the model reads {CONTEXT} at most"):
        ours.prepare(image, ["cup", "xy" * CONTEXT], PLAIN)
    with pytest.raises(DataError, match="0 x 5 pixels: there is nothing to see"):
        ours.prepare(Image.new("RGB", (0, 5)), ["cup"], PLAIN)


def test_one_expression_with_an_image_token_of_another_name_is_found_out() -> None:
    with pytest.raises(DataError, match="holds the model's image token"):
        adapter("gemma3").prepare(noise((20, 20)), ["cup", "<image_soft_token>"], PLAIN)


def test_a_hundred_megapixels_are_too_many() -> None:
    enormous = Image.new("1", (10_001, 10_000))
    with pytest.raises(DataError, match="10001 x 10000 pixels, more than 100 million"):
        adapter("llava").prepare(enormous, ["cup"], PLAIN)


def test_an_image_that_the_processor_refuses_is_a_data_error() -> None:
    with pytest.raises(DataError, match="refuses an image of 900 x 3 pixels"):
        adapter("qwen2_vl").prepare(noise((900, 3)), ["cup"], PLAIN)


@pytest.mark.parametrize("name", sorted(set(FAMILY_BUILDERS) - set(TILED)))
def test_tiles_of_a_family_without_them_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="does not cut images into tiles"):
        adapter(name, tiles=True)


@tiled
def test_tiles_are_more_cells_than_the_whole_view(name: str) -> None:
    whole = adapter(name).prepare(noise((130, 70)), ["cup"], PLAIN)
    tiles = adapter(name, tiles=True).prepare(noise((130, 70)), ["cup"], PLAIN)
    assert whole.prefix.tolist() == tiles.prefix.tolist()
    assert len(tiles.image_tokens) == tiles.geometry.rows * tiles.geometry.cols > len(whole.image_tokens)
    assert not set(tiles.image_tokens.tolist()) & set(whole.image_tokens.tolist())


def test_builders_use_the_special_tokens_they_name() -> None:
    assert len({token_id(name) for name in ("<image>", "<|image_pad|>", "[IMG]", "<IMG_CONTEXT>")}) == 4


def test_a_processor_of_another_model_is_found_out() -> None:
    model, _ = FAMILY_BUILDERS["paligemma"]()
    _, other = FAMILY_BUILDERS["paligemma"]()
    other.image_seq_length = 15
    with pytest.raises(ModelError, match="15 image tokens for one view, which are no square grid"):
        FAMILIES["paligemma"](other, model.config, Preprocess.native).prepare(noise((20, 20)), ["cup"], PLAIN)
    model.config.image_token_id = 5
    with pytest.raises(ModelError, match=r"makes no image tokens \(id 5\) of the image's placeholder '<image>'"):
        FAMILIES["paligemma"](other, model.config, Preprocess.native).prepare(noise((20, 20)), ["cup"], PLAIN)


@pytest.mark.parametrize("name", ["llava_next", "llava_onevision"])
def test_tiles_of_an_image_too_narrow_for_a_cell_are_a_data_error(name: str) -> None:
    with pytest.raises(DataError, match=r"image of 1000 x 2 pixels is so narrow .* model\.tiles=false"):
        adapter(name, tiles=True).prepare(noise((1000, 2)), ["cup"], PLAIN)
    assert adapter(name, Preprocess.pad, tiles=True).prepare(noise((1000, 2)), ["cup"], PLAIN).geometry.width == 1000


@families
def test_an_image_of_another_colour_mode_is_taken_as_rgb(name: str) -> None:
    grey = noise((64, 40)).convert("L")
    found, expected = (adapter(name).prepare(one, ["cup"], PLAIN) for one in (grey, grey.convert("RGB")))
    for key, value in expected.tensors.items():
        torch.testing.assert_close(found.tensors[key], value, rtol=0, atol=0)


@families
def test_images_of_hardly_any_pixels_are_prepared_or_refused_in_words(name: str) -> None:
    refused = []
    for how in Preprocess:
        for size in ((1, 1), (3, 3), (1, 5), (3, 200), (1000, 2)):
            try:
                geometry = adapter(name, how).prepare(noise(size), ["cup"], PLAIN).geometry
            except DataError as error:
                refused.append((size, str(error)))
                continue
            box = np.array([0.0, 0.0, *size])
            np.testing.assert_allclose(geometry.to_pixels(geometry.to_cells(box)), box, rtol=0, atol=1e-6)
    assert len(refused) <= 2  # of twenty
    assert all(f"{width} x {height} pixels" in reason for (width, height), reason in refused)


@families
def test_every_preprocessing_but_native_makes_a_square_of_the_image(name: str) -> None:
    for how in (Preprocess.pad, Preprocess.center_crop, Preprocess.squash):
        geometry = adapter(name, how).prepare(noise((130, 70)), ["cup"], PLAIN).geometry
        assert geometry.rows == geometry.cols
        x0, y0, x1, y1 = geometry.to_cells(np.array([0, 0, 130, 70]))
        ratio = (x1 - x0) / (y1 - y0)
        assert ratio == pytest.approx(1 if how is Preprocess.squash else 130 / 70, rel=0.01)
        assert (y1 - y0 < x1 - x0 <= geometry.cols + 0.5) or how is not Preprocess.pad
        assert (x1 - x0 > geometry.cols + 1) or how is not Preprocess.center_crop
