"""What `stage=verify` asks of a model: every family passes, and each kind of mistake fails in its own line."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILY_BUILDERS
from test_families import CHAT, PLAIN, TOLERANCE, WITHOUT_CHAT, adapter, eager_rows, family, sequence

from locheads.geometry import Preprocess, stretched
from locheads.models import attend, batching, capture
from locheads.models.adapters import PreparedInput, Sharing, attending_layers
from locheads.models.findings import Finding, Outcome
from locheads.models.load import Lvlm
from locheads.models.painted import noise
from locheads.models.verification import eager_rows as verification
from locheads.models.verification.eager_rows import check_attention, eager_maps, only
from locheads.models.verification.painted_cells import blocks, check_geometry, misplaced, own_answers
from locheads.models.verification.stock_prompt import check_prompt

families = pytest.mark.parametrize("name", list(FAMILY_BUILDERS))
few = pytest.mark.parametrize("name", ["llava", "qwen2_vl", "gemma3"])
Change = Callable[[PreparedInput], PreparedInput]


def lvlm(name: str, tiles: bool = False, how: Preprocess = Preprocess.native) -> Lvlm:
    model = copy.deepcopy(family(name)[0])
    capture.install(model)
    return Lvlm(model, adapter(name, how, tiles), torch.device("cpu"))


def misled(one: Lvlm, change: Change) -> Lvlm:
    """With an adapter whose every input is changed."""
    wrong = copy.copy(one.adapter)
    wrong.prepare = lambda *arguments: change(one.adapter.prepare(*arguments))  # type: ignore[method-assign]
    return replace(one, adapter=wrong)


def failed(findings: list[Finding]) -> list[str]:
    assert all(bool(finding.advice) is (finding.outcome is Outcome.failed) for finding in findings)
    return [finding.name for finding in findings if finding.outcome is Outcome.failed]


@families
def test_every_family_passes(name: str) -> None:
    one = lvlm(name)
    prompts = [PLAIN] if name in WITHOUT_CHAT else [PLAIN, CHAT]
    for prompt in prompts:
        findings = [*check_prompt(one, prompt), *check_attention(one, prompt)]
        assert len(findings) == 9 and not failed(findings)
    plain = one.adapter.sharing is Sharing.plain
    assert [finding.outcome is Outcome.not_applicable for finding in findings] == [False] * 6 + [plain, False, False]


@families
def test_eager_maps_are_transformers_own(name: str) -> None:
    prepared = adapter(name).prepare(noise(130, 70, 0), ["the red cup left of it", "circle"], PLAIN)
    inputs = sequence(prepared, 1)
    last = inputs["input_ids"].shape[1] - 1
    expected = eager_rows(name, inputs)[..., prepared.image_tokens]
    attend = attending_layers(family(name)[0].config.get_text_config(decoder=True))
    for before in (0, 1):
        found = eager_maps(lvlm(name), only(prepared, 1), before)[attend]
        np.testing.assert_allclose(
            found.reshape(expected[:, :, 0].shape), expected[:, :, last - before], atol=TOLERANCE
        )


def test_the_capture_is_back_after_eager_attention() -> None:
    one, image = lvlm("llava"), noise(64, 64, 0)
    before, _ = attend.attend_image(one, image, ["cup"], PLAIN)
    eager_maps(one, only(one.adapter.prepare(image, ["cup"], PLAIN), 0))
    after, _ = attend.attend_image(one, image, ["cup"], PLAIN)
    np.testing.assert_array_equal(after, before)


@few
def test_what_is_shown_of_the_prompt(name: str) -> None:
    shown = {finding.name: finding.text for finding in check_prompt(lvlm(name), PLAIN)}
    assert " x ".join(str(n) for n in ((6, 6) if name == "qwen2_vl" else (4, 4))) in shown["image tokens"]
    assert shown["query token"].startswith("'.' (")
    assert shown["expression"] == "'the red circle' is 3 tokens, read back as 'the red circle'"
    assert "640 x 320" in shown["token ids"] and "640 x 320" in shown["pixels"]


def other_token(at: int) -> Change:
    def changed(own: PreparedInput) -> PreparedInput:
        suffix = own.suffixes[0].clone()
        suffix[at] += 1
        return replace(own, suffixes=(suffix,))

    return changed


def test_an_expression_that_is_not_read_back_fails() -> None:
    """As of a tokenizer that loses spaces: here another word stands in its place."""
    assert failed(check_prompt(misled(lvlm("llava"), other_token(-2)), PLAIN)) == ["token ids", "expression"]


@few
def test_other_tokens_and_pixels_than_the_processors_fail(name: str) -> None:
    def other_pixels(own: PreparedInput) -> PreparedInput:
        return replace(own, tensors=own.tensors | {"pixel_values": own.tensors["pixel_values"] + 1e-6})

    one = lvlm(name)
    assert failed(check_prompt(misled(one, other_token(-1)), PLAIN)) == ["token ids"]
    assert failed(check_prompt(misled(one, other_pixels), PLAIN)) == ["pixels"]
    if name == "gemma3":  # its types tell image tokens from text
        other_types = misled(one, lambda own: replace(own, token_types=1 - own.token_types))
        assert failed(check_prompt(other_types, PLAIN)) == ["token ids"]
    fewer = misled(one, lambda own: replace(own, suffixes=(own.suffixes[0][:-1],)))
    assert "token ids" in failed(check_prompt(fewer, PLAIN))


def test_a_processor_whose_own_call_fails_is_no_reason_to_fail() -> None:
    one = lvlm("llava")
    processor = copy.copy(one.adapter.processor)
    processor.patch_size = None
    one.adapter.processor = processor
    first = check_prompt(one, PLAIN)[0]
    assert first.outcome is Outcome.not_applicable and "The processor's own call fails (" in first.text


@few
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_scaled_queries_fail(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    one = lvlm(name)
    one.model.to(dtype)
    assert not failed(check_attention(one, PLAIN))
    scaled, rows = 1.001 if dtype is torch.float32 else 1.15, capture.query_rows
    monkeypatch.setattr(capture, "query_rows", lambda q, k, m, scale, *rest: rows(q, k, m, scale * scaled, *rest))
    assert failed(check_attention(one, PLAIN)) == ["rows = eager attention"]


def test_suffixes_that_see_each_other_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = batching._block_masks
    monkeypatch.setattr(batching, "_block_masks", lambda *a: torch.ones_like(masks(*a)).tril())
    assert failed(check_attention(lvlm("llava"), PLAIN))[0] == "one pass per image = one per expression"


def test_wrong_heads_and_images_in_another_order_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    right = verification.attend_prepared

    def mixed_up(one: Lvlm, images: Any, budget: Any, heads: Any = None) -> Any:
        found = right(one, images, budget, None if heads is None else heads[::-1])
        return found[::-1] if budget is verification.TOGETHER else found

    monkeypatch.setattr(verification, "attend_prepared", mixed_up)
    names = failed(check_attention(lvlm("llava"), PLAIN))
    assert [name.split(" ")[0] for name in names] == ["exit", "several"]


def test_attention_that_is_not_finite_fails() -> None:
    one = lvlm("llava")
    with torch.no_grad():
        one.model.get_input_embeddings().weight.fill_(torch.nan)
    findings = check_attention(one, PLAIN)
    assert len(failed(findings)) == 4 and findings[0].text == "the attention is not finite"


def cells(change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    """Other tokens for the same grid; `change` of [row, column]."""

    def changed(own: PreparedInput) -> PreparedInput:
        grid = own.image_tokens.reshape(own.geometry.rows, own.geometry.cols)
        return replace(own, image_tokens=change(grid).reshape(-1))

    return changed


def a_row_lower(own: PreparedInput) -> PreparedInput:
    x, y = own.geometry.offset
    return replace(own, geometry=replace(own.geometry, offset=(x, y + 1)))


WRONG = {
    "a row off": a_row_lower,
    "the next row's tokens": cells(lambda grid: grid.roll(1, 0)),
    "the next token": cells(lambda grid: grid.flatten().roll(1)),
    "column by column": cells(lambda grid: grid.T.contiguous()),
    "mirrored": cells(lambda grid: grid.flip(1)),
}


@pytest.mark.parametrize(("name", "tiles"), [("llava", False), ("qwen2_vl", False), ("idefics3", True)])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_geometry_fails_at_every_aspect(name: str, tiles: bool, wrong: str) -> None:
    one = lvlm(name, tiles)
    assert not failed(check_geometry(one))
    assert len(failed(check_geometry(misled(one, WRONG[wrong])))) == 3


def test_tokens_that_answer_to_anything_do_not_mislead() -> None:
    """As the outliers of real vision towers do: a few vectors that change whatever is painted, or by chance."""
    geometry, rng = stretched(336, 336, 24, 24), np.random.default_rng(0)
    boxes = blocks(geometry)
    grids = rng.uniform(0, 0.5, (len(boxes), 24, 24))
    for grid, box in zip(grids, boxes, strict=True):
        x0, y0, x1, y1 = geometry.to_cells(np.array(box)).round().astype(int)
        grid[y0:y1, x0:x1] += 1
        grid.ravel()[rng.choice(576, 3)] += 20
    grids[:, 3, 5] += 50
    away = [misplaced(grid, geometry, box) for grid, box in zip(own_answers(grids), boxes, strict=True)]
    assert max(away) == 0
    shifted = own_answers(np.roll(grids, 1, axis=2))
    assert min(misplaced(grid, geometry, box) for grid, box in zip(shifted, boxes, strict=True)) == 1


def test_blocks_lie_on_whole_cells_within_the_image() -> None:
    geometry = replace(stretched(100, 50, 8, 8), scale=(0.08, 0.08), offset=(0.0, 2.0))  # bars above and below
    found = np.array(blocks(geometry))
    assert len(found) == 9 and (found >= 0).all() and (found <= [100, 50, 100, 50]).all()
    at = geometry.to_cells(found)
    np.testing.assert_allclose(at, at.round(), atol=0.05)
