"""Every family: expressions that share a forward pass get the maps that each would get alone."""

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILY_BUILDERS, lfm2_vl
from PIL import Image

from locheads.geometry import Preprocess
from locheads.models import capture
from locheads.models.adapters import FAMILIES, PreparedInput, Sharing
from locheads.models.attend import attend_prepared
from locheads.models.batching import Budget, Strip, collate, single, whole
from locheads.models.config import PromptConfig
from locheads.models.load import Lvlm
from locheads.models.verification.eager_rows import eager_maps, only
from locheads.types import HeadIndex

EXPRESSIONS = ["the red circle", "the blue square in the image", "circle"]
PROMPT = PromptConfig(template="look <image>\n{expression}")
ONE_STRIP, LARGE = Budget(1, 1), Budget(100_000)
CPU = torch.device("cpu")
CLOSE = 5e-5
"""Two forward passes of one model in float32, whose sums are of another order: processors differ by some 5e-6."""

families = pytest.mark.parametrize("name", list(FAMILY_BUILDERS))


@cache
def lvlm(name: str) -> Lvlm:
    model, processor = FAMILY_BUILDERS[name]()
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2 and not weight.any():  # Gemma 3's projector: all images would look the same
                weight.normal_(0, 0.2, generator=torch.Generator().manual_seed(0))
    capture.install(model)
    return Lvlm(model, FAMILIES[model.config.model_type](processor, model.config, Preprocess.native), CPU)


def as_plain(one: Lvlm) -> Lvlm:
    """The same model asked about one expression at a time, with its own masks."""
    adapter = copy.copy(one.adapter)
    adapter.sharing = Sharing.plain
    return Lvlm(one.model, adapter, one.device)


@cache
def prepared(name: str, seed: int = 0, size: tuple[int, int] = (64, 48)) -> PreparedInput:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return lvlm(name).adapter.prepare(Image.fromarray(pixels), EXPRESSIONS, PROMPT)


def maps(one: Lvlm, images: list[PreparedInput], budget: Budget = ONE_STRIP, heads: Any = None) -> list[np.ndarray]:
    return [np.stack([one.maps() for one in found]) for found in attend_prepared(one, images, budget, heads)]


@families
def test_the_engine_equals_eager_attention_of_each_expression_alone(name: str) -> None:
    (found,) = maps(lvlm(name), [prepared(name)])
    for i, own in enumerate(found):
        alone = only(prepared(name), i)
        np.testing.assert_allclose(own, eager_maps(lvlm(name), alone), rtol=0, atol=CLOSE)
        assert np.abs(own - eager_maps(lvlm(name), alone, before=1)).max() > 0.03


@families
def test_shared_or_batched_equals_one_expression_at_a_time(name: str) -> None:
    alone = maps(as_plain(lvlm(name)), [prepared(name)])
    for budget in (ONE_STRIP, LARGE):
        (found,) = maps(lvlm(name), [prepared(name)], budget)
        np.testing.assert_allclose(found, alone[0], rtol=0, atol=CLOSE)
    assert np.abs(alone[0][0] - alone[0][1]).max() > 0.01


@families
def test_expressions_one_by_one_in_one_forward_pass_equal_each_in_its_own(name: str) -> None:
    """As for a decoder whose window is shorter than the prompt: nothing is shared but the look at the image."""
    images = [prepared(name), prepared(name, 1)]
    alone = [maps(as_plain(lvlm(name)), [image])[0] for image in images]
    np.testing.assert_allclose(maps(as_plain(lvlm(name)), images, LARGE), alone, rtol=0, atol=CLOSE)


@families
def test_images_in_one_forward_pass_equal_each_image_alone(name: str) -> None:
    images = [prepared(name), prepared(name, 1), prepared(name, 2)]
    together = maps(lvlm(name), images, LARGE)
    for one, image in zip(together, images, strict=True):
        np.testing.assert_allclose(one, maps(lvlm(name), [image])[0], rtol=0, atol=CLOSE)
    assert np.abs(together[0] - together[1]).max() > 0.01


@families
def test_the_early_exit_is_exact_to_the_bit(name: str) -> None:
    (full,) = maps(lvlm(name), [prepared(name)])
    wanted = [HeadIndex(1, 2), HeadIndex(0, 3), HeadIndex(1, 0)]
    (some,) = maps(lvlm(name), [prepared(name)], heads=wanted)
    np.testing.assert_array_equal(some, full[:, [1, 0, 1], [2, 3, 0]])
    assert np.abs(some[:, 0] - full[:, 1, 3]).max() > 0.001


@families
def test_the_layers_after_the_exit_do_not_run_and_the_next_pass_is_whole_again(name: str) -> None:
    one = lvlm(name)
    ran: list[int] = []
    layers = [m for m in one.model.modules() if type(m).__name__.endswith("DecoderLayer") and hasattr(m, "self_attn")]
    layers = [m for m in layers if hasattr(m.self_attn, "layer_idx")]
    hooks = [m.register_forward_pre_hook(lambda *_, i=i: ran.append(i)) for i, m in enumerate(layers)]
    try:
        passes = len(EXPRESSIONS) if name == "molmo2" else 1
        maps(one, [prepared(name)], LARGE, heads=[HeadIndex(1, 0)])
        assert ran == [0, 1] * passes
        ran.clear()
        maps(one, [prepared(name)], LARGE)
        assert ran == list(range(len(layers))) * passes
        assert len(layers) > 2
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize(
    "name", sorted({"gemma3", "gemma4", "molmo2", "paligemma", "paligemma2", "lfm2_vl"} & set(FAMILY_BUILDERS))
)
@torch.inference_mode()
def test_a_family_that_declares_plain_would_be_wrong_packed(name: str) -> None:
    one = lvlm(name)
    assert one.adapter.sharing is Sharing.plain
    (right,) = maps(one, [prepared(name)])
    batch = collate(whole(prepared(name)), shared=True)
    with capture.recording(batch.queries, batch.keys) as recorder:
        one.model.base_model(
            input_ids=batch.input_ids, attention_mask=batch.mask, position_ids=batch.position_ids,
            **batch.tensors(), **batch.token_types,
        )  # fmt: skip
    rows = torch.stack(recorder.rows)[:, 0].permute(2, 0, 1, 3).numpy()
    assert np.abs(rows - right[:, recorder.layers].reshape(rows.shape)).max() > 0.01


@pytest.mark.skipif("lfm2_vl" not in FAMILY_BUILDERS, reason="no torchvision")
@torch.inference_mode()
def test_layers_that_do_not_attend_have_maps_of_zeros_in_their_place() -> None:
    attend = [1, 4]
    model, processor = lfm2_vl(("conv", "full_attention", "conv", "conv", "full_attention", "conv"))
    capture.install(model)
    one = Lvlm(model, FAMILIES["lfm2_vl"](processor, model.config, Preprocess.native), CPU)
    image = one.adapter.prepare(Image.fromarray(np.eye(48, 64, dtype=np.uint8) * 255), EXPRESSIONS, PROMPT)
    (found,) = maps(one, [image])
    model.set_attn_implementation("eager")
    for i, suffix in enumerate(image.suffixes):
        ids = torch.cat([image.prefix, suffix])[None]
        weights = model.base_model(input_ids=ids, **image.tensors, output_attentions=True).attentions
        expected = torch.stack(weights)[:, 0, :, -1, image.image_tokens].numpy()
        np.testing.assert_allclose(found[i, attend].reshape(expected.shape), expected, rtol=0, atol=CLOSE)
        assert np.abs(expected[0] - expected[1]).max() > 0.01
    assert found.shape[1] == 6 and not np.delete(found, attend, axis=1).any()
    capture.install(model)
    (some,) = maps(one, [image], heads=[HeadIndex(2, 0), HeadIndex(1, 3), HeadIndex(5, 1)])
    np.testing.assert_array_equal(some, found[:, [2, 1, 5], [0, 3, 1]])


@families
def test_an_image_is_looked_at_once_for_all_its_expressions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "molmo2":
        pytest.skip("its images cannot be joined")
    model = lvlm(name).model.base_model
    looks: list[int] = []
    real = type(model).get_image_features

    def counting(self: Any, *arguments: Any, **options: Any) -> Any:
        looks.append(1)
        return real(self, *arguments, **options)

    monkeypatch.setattr(type(model), "get_image_features", counting)
    # Small enough to be one tile of any family.
    images = [prepared(name, seed, (24, 24)) for seed in (0, 1)]
    together = maps(lvlm(name), images, LARGE)
    assert len(looks) == 1
    alone = [maps(as_plain(lvlm(name)), [image], ONE_STRIP)[0] for image in images]
    assert len(looks) == 1 + 2 * len(EXPRESSIONS)
    np.testing.assert_allclose(together, alone, rtol=0, atol=CLOSE)
    assert "get_image_features" not in vars(model)


@families
def test_the_mean_over_a_span_of_queries_is_the_mean_of_their_rows(name: str) -> None:
    image = prepared(name)
    ends = [len(suffix) for suffix in image.suffixes]
    rows = []
    for back in (1, 2):
        shifted = copy.copy(image)
        object.__setattr__(shifted, "spans", tuple((end - back, end - back + 1) for end in ends))
        rows.append(maps(lvlm(name), [shifted])[0])
    both = copy.copy(image)
    object.__setattr__(both, "spans", tuple((end - 2, end) for end in ends))
    np.testing.assert_allclose(maps(lvlm(name), [both])[0], (rows[0] + rows[1]) / 2, rtol=0, atol=CLOSE)
    assert np.abs(rows[0] - rows[1]).max() > 0.01


def test_strips_of_an_image_hold_every_expression_once() -> None:
    image = prepared("llava")
    assert [strip.suffixes for strip in whole(image)] == [(0, 1, 2)]
    assert [strip.suffixes for strip in single(image)] == [(0,), (1,), (2,)]


@families
def test_the_prefix_alone_and_the_rest_under_the_mask_are_the_whole_under_the_mask(name: str) -> None:
    one = lvlm(name)
    if one.adapter.sharing is Sharing.plain:
        pytest.skip("no block masks")
    strips = [*whole(prepared(name)), *whole(prepared(name, 1))]
    (whole_mask, in_two) = (rows_with(one, strips, prefix) for prefix in (None, len(prepared(name).prefix)))
    np.testing.assert_allclose(in_two, whole_mask, rtol=0, atol=CLOSE)
    # A prefix that reaches into the last suffix would let it see the suffixes before it.
    assert np.abs(rows_with(one, strips, min(map(len, strips)) - 1) - whole_mask).max() > 1e-4


@torch.inference_mode()
def rows_with(one: Lvlm, strips: list[Strip], prefix: int | None) -> np.ndarray:
    batch = collate(strips, shared=True)
    with capture.recording(batch.queries, batch.keys, prefix=prefix) as recorder:
        one.model.base_model(
            input_ids=batch.input_ids, attention_mask=batch.mask, position_ids=batch.position_ids,
            **batch.tensors(), **batch.token_types,
        )  # fmt: skip
    return torch.stack(recorder.rows).numpy()


def test_a_batch_knows_the_prefix_that_its_strips_share() -> None:
    image = prepared("llava")
    longer = replace(image, prefix=torch.cat([image.prefix[:1], image.prefix]))
    assert collate(whole(image), shared=True).causal_prefix == len(image.prefix)
    assert collate([*whole(image), *whole(longer)], shared=True).causal_prefix is None
    assert collate(single(image), shared=False).causal_prefix is None
