"""The attention pass: all expressions of a picture in one sequence, each as if it were alone."""

from pathlib import Path

import numpy as np
import pytest
import tiny_llava
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration as Llava

from locheads.config import PromptConfig
from locheads.errors import DataError
from locheads.models.attend import attend
from locheads.models.capture import recording
from locheads.models.load import Lvlm
from locheads.models.packing import Packed, pack
from locheads.types import Attention, ImageGroup, Sample

EXPRESSIONS = ("the red circle", "the small square left of the blue circle", "circle", "a triangle ?")
PROMPT = PromptConfig(template="the <image>\n{expression}")


@pytest.fixture
def lvlm(model: Llava) -> Lvlm:
    return tiny_llava.lvlm(model)


def ask(lvlm: Lvlm, picture: Image.Image, *expressions: str) -> Attention:
    samples = tuple(Sample(f"s{i}", f"r{i}", text, (0, 0, 1, 1), {}, "thing") for i, text in enumerate(expressions))
    return attend(lvlm, ImageGroup("p7", Path("p7.jpg"), *picture.size, samples), picture, PROMPT)


def test_pack_lays_out_prefix_and_suffixes_with_block_mask_and_positions_by_hand() -> None:
    packed = pack(torch.tensor([7, 8]), [torch.tensor([1]), torch.tensor([2, 3]), torch.tensor([4])])
    assert packed.input_ids.tolist() == [[7, 8, 1, 2, 3, 4]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 2, 3, 2]]
    assert packed.queries.tolist() == [2, 4, 5]
    assert packed.mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


@torch.inference_mode()
def test_maps_equal_eager_attention_of_each_expression_alone(lvlm: Lvlm, picture: Image.Image) -> None:
    found = ask(lvlm, picture, *EXPRESSIONS)
    assert found.maps.shape == (4, tiny_llava.LAYERS, tiny_llava.HEADS, 4, 4)
    prepared = lvlm.adapter.prepare(picture, EXPRESSIONS, PROMPT)
    eager = tiny_llava.twin(lvlm.model, "eager")
    for maps, suffix in zip(found.maps, prepared.suffixes, strict=True):
        ids = torch.cat([prepared.prefix, suffix])[None]
        rows = torch.stack(eager(input_ids=ids, output_attentions=True, **prepared.tensors).attentions)[:, 0]
        rows = rows[..., prepared.image_tokens].reshape(*rows.shape[:3], 4, 4).numpy()
        np.testing.assert_allclose(maps, rows[:, :, -1], rtol=0, atol=2e-5)
        assert np.abs(maps - rows[:, :, -2]).max() > 0.05  # the query before the last is another one


def test_packed_expressions_equal_each_expression_asked_alone(lvlm: Lvlm, picture: Image.Image) -> None:
    together = ask(lvlm, picture, *EXPRESSIONS)
    for maps, expression in zip(together.maps, EXPRESSIONS, strict=True):
        np.testing.assert_allclose(maps, ask(lvlm, picture, expression).maps[0], rtol=0, atol=2e-5)
    assert np.abs(together.maps[0] - together.maps[1]).max() > 0.05


def test_nothing_leaks_from_one_expression_into_another(lvlm: Lvlm, picture: Image.Image) -> None:
    one = ask(lvlm, picture, "the red circle", "the small square", "circle")
    other = ask(lvlm, picture, "the red circle", "the blue triangle", "circle")
    np.testing.assert_array_equal(one.maps[[0, 2]], other.maps[[0, 2]])
    assert np.abs(one.maps[1] - other.maps[1]).max() > 0.05


@torch.inference_mode()
def test_a_plain_causal_mask_would_leak(lvlm: Lvlm, picture: Image.Image) -> None:
    prepared = lvlm.adapter.prepare(picture, EXPRESSIONS, PROMPT)
    right = pack(prepared.prefix, prepared.suffixes)
    wrong = Packed(right.input_ids, right.position_ids, torch.ones_like(right.mask).tril(), right.queries)
    maps = []
    for packed in (right, wrong):
        with recording(packed.queries, prepared.image_tokens) as recorder:
            lvlm.model.base_model(
                packed.input_ids, position_ids=packed.position_ids, attention_mask=packed.mask, **prepared.tensors
            )
        maps.append(torch.stack(recorder.rows)[:, 0])
    torch.testing.assert_close(maps[0][:, :, 0], maps[1][:, :, 0], rtol=0, atol=2e-5)
    assert (maps[0] - maps[1])[:, :, 1:].abs().max() > 0.05


def test_attention_carries_its_names_sums_and_geometry(lvlm: Lvlm, picture: Image.Image) -> None:
    found = ask(lvlm, picture, *EXPRESSIONS[:2])
    assert (found.image_id, found.sample_ids) == ("p7", ("s0", "s1"))
    np.testing.assert_allclose(found.sums, found.maps.sum(axis=(-2, -1)), rtol=0, atol=1e-6)
    assert found.sums.max() <= 1 + 1e-6
    assert (found.geometry.width, found.geometry.height, found.geometry.rows) == (30, 20, 4)
    assert found.maps.dtype == np.float32


def test_the_picture_matters(lvlm: Lvlm, picture: Image.Image) -> None:
    upside_down = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    difference = ask(lvlm, picture, "circle").maps - ask(lvlm, upside_down, "circle").maps
    assert np.abs(difference).max() > 0.01


def test_a_blank_expression_among_others_is_a_data_error(lvlm: Lvlm, picture: Image.Image) -> None:
    with pytest.raises(DataError, match="expression is empty"):
        ask(lvlm, picture, "circle", "  ")
