"""The attention pass: all expressions of an image in one sequence, each as if it were alone."""

from pathlib import Path

import numpy as np
import pytest
import tiny_llava
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration as Llava

from locheads.errors import DataError
from locheads.geometry import Preprocess, square_geometry
from locheads.models.adapters import PreparedInput
from locheads.models.attend import attend
from locheads.models.batching import Strip, collate, halves, single, whole
from locheads.models.capture import recording
from locheads.models.config import PromptConfig
from locheads.models.load import Lvlm
from locheads.types import Attention, ImageGroup, Sample

EXPRESSIONS = ("the red circle", "the small square left of the blue circle", "circle", "a triangle ?")
PROMPT = PromptConfig(template="the <image>\n{expression}")


@pytest.fixture
def lvlm(model: Llava) -> Lvlm:
    return tiny_llava.lvlm(model)


def ask(lvlm: Lvlm, image: Image.Image, *expressions: str) -> Attention:
    samples = tuple(Sample(f"s{i}", f"r{i}", text, (0, 0, 1, 1), {}, "thing") for i, text in enumerate(expressions))
    return attend(lvlm, ImageGroup("p7", Path("p7.jpg"), *image.size, samples), image, PROMPT)


def by_hand(prefix: list[int], suffixes: list[list[int]], spans: list[tuple[int, int]], **more) -> PreparedInput:
    geometry = square_geometry(4, 4, 4, 2, Preprocess.pad)
    words = tuple(torch.tensor(suffix) for suffix in suffixes)
    cells = torch.arange(1, len(prefix))
    pixels = {"pixel_values": torch.full((1, 2), float(len(prefix)))}
    return PreparedInput(torch.tensor(prefix), words, tuple(spans), cells, pixels, geometry, **more)


def test_collate_lays_out_strips_with_block_mask_positions_and_padding_by_hand() -> None:
    long = by_hand([7, 8], [[1], [2, 3], [4]], [(0, 1), (0, 2), (0, 1)])
    short = by_hand([9, 8], [[5, 6]], [(0, 1)])
    batch = collate([*whole(long), *whole(short)], shared=True)
    assert batch.input_ids.tolist() == [[7, 8, 1, 2, 3, 4], [9, 8, 5, 6, 6, 6]]
    assert batch.position_ids[0].tolist() == [0, 1, 2, 2, 3, 2]
    assert batch.position_ids[1].tolist()[:4] == [0, 1, 2, 3]
    # The second suffix is asked at both of its tokens; shorter rows repeat their last query.
    assert batch.queries.tolist() == [[2, 3, 4, 5], [2, 2, 2, 2]]
    assert batch.keys.tolist() == [[1], [1]]
    assert batch.tensors()["pixel_values"].tolist() == [[2, 2], [2, 2]]
    assert batch.copies == (1, 1)
    assert batch.mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]
    assert batch.mask[1, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],  # padding sees itself, so that no row is NaN
        [0, 0, 0, 0, 0, 1],
    ]


def test_collate_counts_on_in_all_three_rows_of_m_rope_positions() -> None:
    positions = torch.tensor([[0, 1], [0, 5], [0, 3]])
    image = by_hand([7, 8], [[1, 2], [3]], [(1, 2), (0, 1)], prefix_positions=positions)
    batch = collate(whole(image), shared=True)
    assert batch.position_ids[:, 0].tolist() == [[0, 1, 6, 7, 6], [0, 5, 6, 7, 6], [0, 3, 6, 7, 6]]
    assert collate(single(image), shared=False).position_ids.shape == (3, 2, 4)


def test_collate_of_single_strips_leaves_positions_and_mask_to_the_family() -> None:
    types = torch.tensor([0, 1])
    image = by_hand([7, 8], [[1], [2, 3]], [(0, 1), (1, 2)], token_types=types, token_types_name="kinds")
    batch = collate(single(image), shared=False)
    assert batch.input_ids.tolist() == [[7, 8, 1, 1], [7, 8, 2, 3]]
    assert batch.position_ids is None
    assert batch.mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch.queries.tolist() == [[2], [3]]
    assert batch.token_types["kinds"].tolist() == [[0, 1, 0, 0], [0, 1, 0, 0]]
    assert batch.copies == (2,)
    assert batch.tensors()["pixel_values"].shape == (2, 2)
    assert batch.tensors(once=True)["pixel_values"].shape == (1, 2)


def test_halves_split_batches_then_strips_and_end_at_one_expression() -> None:
    image = by_hand([7, 8], [[1], [2], [3]], [(0, 1)] * 3)
    assert halves([*whole(image), *whole(image)]) == (whole(image), whole(image))
    assert halves(whole(image)) == ([Strip(image, (0,))], [Strip(image, (1, 2))])
    assert halves([Strip(image, (1,))]) is None


@torch.inference_mode()
def test_maps_equal_eager_attention_of_each_expression_alone(lvlm: Lvlm, image: Image.Image) -> None:
    found = ask(lvlm, image, *EXPRESSIONS)
    assert found.maps.shape == (4, tiny_llava.LAYERS, tiny_llava.HEADS, 4, 4)
    prepared = lvlm.adapter.prepare(image, EXPRESSIONS, PROMPT)
    eager = tiny_llava.twin(lvlm.model, "eager")
    for maps, suffix in zip(found.maps, prepared.suffixes, strict=True):
        ids = torch.cat([prepared.prefix, suffix])[None]
        rows = torch.stack(eager(input_ids=ids, output_attentions=True, **prepared.tensors).attentions)[:, 0]
        rows = rows[..., prepared.image_tokens].reshape(*rows.shape[:3], 4, 4).numpy()
        np.testing.assert_allclose(maps, rows[:, :, -1], rtol=0, atol=2e-5)
        assert np.abs(maps - rows[:, :, -2]).max() > 0.05  # the query before the last is another one


def test_packed_expressions_equal_each_expression_asked_alone(lvlm: Lvlm, image: Image.Image) -> None:
    together = ask(lvlm, image, *EXPRESSIONS)
    for maps, expression in zip(together.maps, EXPRESSIONS, strict=True):
        np.testing.assert_allclose(maps, ask(lvlm, image, expression).maps[0], rtol=0, atol=2e-5)
    assert np.abs(together.maps[0] - together.maps[1]).max() > 0.05


def test_nothing_leaks_from_one_expression_into_another(lvlm: Lvlm, image: Image.Image) -> None:
    one = ask(lvlm, image, "the red circle", "the small square", "circle")
    other = ask(lvlm, image, "the red circle", "the blue triangle", "circle")
    np.testing.assert_array_equal(one.maps[[0, 2]], other.maps[[0, 2]])
    assert np.abs(one.maps[1] - other.maps[1]).max() > 0.05


@torch.inference_mode()
def test_a_plain_causal_mask_would_leak(lvlm: Lvlm, image: Image.Image) -> None:
    prepared = lvlm.adapter.prepare(image, EXPRESSIONS, PROMPT)
    right = collate(whole(prepared), shared=True)
    maps = []
    for mask in (right.mask, torch.ones_like(right.mask).tril()):
        with recording(right.queries, prepared.image_tokens) as recorder:
            lvlm.model.base_model(
                right.input_ids, position_ids=right.position_ids, attention_mask=mask, **prepared.tensors
            )
        maps.append(torch.stack(recorder.rows)[:, 0])
    torch.testing.assert_close(maps[0][:, :, 0], maps[1][:, :, 0], rtol=0, atol=2e-5)
    assert (maps[0] - maps[1])[:, :, 1:].abs().max() > 0.05


def test_attention_carries_its_names_sums_and_geometry(lvlm: Lvlm, image: Image.Image) -> None:
    found = ask(lvlm, image, *EXPRESSIONS[:2])
    assert (found.image_id, found.sample_ids) == ("p7", ("s0", "s1"))
    np.testing.assert_allclose(found.sums, found.maps.sum(axis=(-2, -1)), rtol=0, atol=1e-6)
    assert found.sums.max() <= 1 + 1e-6
    assert (found.geometry.width, found.geometry.height, found.geometry.rows) == (30, 20, 4)
    assert found.maps.dtype == np.float32


def test_the_image_matters(lvlm: Lvlm, image: Image.Image) -> None:
    upside_down = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    difference = ask(lvlm, image, "circle").maps - ask(lvlm, upside_down, "circle").maps
    assert np.abs(difference).max() > 0.01


def test_a_blank_expression_among_others_is_a_data_error(lvlm: Lvlm, image: Image.Image) -> None:
    with pytest.raises(DataError, match="expression is empty"):
        ask(lvlm, image, "circle", "  ")
