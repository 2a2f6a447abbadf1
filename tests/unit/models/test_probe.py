"""model.adapter=probe finds by itself what the hand-written adapters know, and refuses what has no patch grid."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILY_BUILDERS, MISSING
from test_families_geometry import near_sighted
from torch import nn

from locheads.errors import ConfigError, ModelError
from locheads.geometry import Preprocess
from locheads.models import capture
from locheads.models.adapters import FAMILIES, PreparedInput, ProbedAdapter, probed
from locheads.models.config import ModelConfig, PromptConfig
from locheads.models.engine import EngineConfig
from locheads.models.load import Lvlm, adapter_of, load_lvlm
from locheads.models.painted import NearSighted, Places, noise
from locheads.models.patch_grids import find_grids, whole_view

PROMPT = PromptConfig(template="look <image>\n{expression}")
SIZES = [(100, 90), (200, 60), (64, 64)]
TILED = ["llava_next", "llava_onevision", "internvl", "aya_vision", "ovis2", "idefics3", "smolvlm", "lfm2_vl",
         "cohere2_vision", "llama4", "perception_lm", "molmo2"]  # fmt: skip
SMALL = {"wide": (130, 70), "square": (90, 90), "tall": (61, 97)}
OF_WORDS = ("emu3", "chameleon")
"""Their tokens are words of a picture vocabulary. That of a tiny random tower is made of what its neighbours hold as
well, so here it sees its own place alone."""
BARS = ("llama4",)
"""Where the image has the first of the sizes, all but a column of a tile is a bar, and the probe cannot place it."""
ANOTHER_PROMPT = "got_ocr2"
"""Its processor asks for a prompt of its own."""


@cache
def family(name: str) -> tuple[Any, Any]:
    model, processor = FAMILY_BUILDERS[name]()
    if name in OF_WORDS:
        model = near_sighted(name)
    capture.install(model.eval())
    return model, processor


def probe(model: Any, processor: Any, tiles: bool = False) -> ProbedAdapter:
    adapter = ProbedAdapter(copy.deepcopy(processor), model.config, Preprocess.native, tiles)
    adapter.examine(Lvlm(model, adapter, torch.device("cpu")))
    return adapter


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probed, "ASPECTS", SMALL)


def apart(found: PreparedInput, expected: PreparedInput) -> float:
    """Cells between the two geometries, at most, over what the model sees of the image."""
    assert (found.geometry.rows, found.geometry.cols) == (expected.geometry.rows, expected.geometry.cols)
    window = expected.geometry.window()
    return float(np.abs(found.geometry.to_cells(window) - expected.geometry.to_cells(window)).max())


def check(name: str, tiles: bool) -> ProbedAdapter:
    model, processor = family(name)
    ours = probe(model, processor, tiles)
    by_hand = FAMILIES[model.config.model_type](processor, model.config, Preprocess.native, tiles)
    assert ours.sharing == by_hand.sharing
    for size in SIZES[tiles and name in BARS :]:
        found, expected = (
            adapter.prepare(noise(*size, seed=3), ["the red cup", "dog"], PROMPT) for adapter in (ours, by_hand)
        )
        assert apart(found, expected) < 0.5
        if name == ANOTHER_PROMPT:
            continue
        for one, other in zip((found.prefix, *found.suffixes), (expected.prefix, *expected.suffixes), strict=True):
            assert one.tolist() == other.tolist()
        assert found.image_tokens.tolist() == expected.image_tokens.tolist()
        assert found.spans == expected.spans
        assert found.tensors.keys() == expected.tensors.keys()
        for field in ("prefix_positions", "token_types"):
            if (name, field) == ("gemma3n", "token_types"):  # its forward takes them, and does nothing with them
                continue
            one, other = getattr(found, field), getattr(expected, field)
            assert (one is None) == (other is None)
            assert one is None or torch.equal(one, other)
    return ours


@pytest.mark.parametrize("name", [*FAMILY_BUILDERS, *MISSING])
def test_the_probe_finds_what_the_hand_written_adapter_knows(name: str, small: None) -> None:
    if name in MISSING:
        pytest.skip(f"{name} needs {MISSING[name]}")
    found = check(name, tiles=False).found()
    assert len(found["views"]) >= 1 and found["image_token"] >= 0


def test_no_family_with_an_adapter_is_left_out() -> None:
    assert {*FAMILIES} <= {*FAMILY_BUILDERS, *MISSING}


@pytest.mark.parametrize("name", [name for name in TILED if name in FAMILY_BUILDERS])
def test_the_probe_lays_out_tiles_as_the_hand_written_adapter_does(name: str, small: None) -> None:
    check(name, tiles=True)


def test_a_group_norm_lets_no_place_move_another_while_the_probe_looks() -> None:
    torch.manual_seed(0)
    tower, pixels = nn.Sequential(nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 3, padding=1)), torch.randn(1, 4, 6, 6)
    nn.init.normal_(tower[0].weight), nn.init.normal_(tower[0].bias)
    painted = pixels.clone()
    painted[..., 0] = 9
    with torch.no_grad():
        usual, changed = tower(pixels), tower(painted)
        with NearSighted():
            own, moved = tower(pixels), tower(painted)
        centre = nn.functional.conv2d(tower[0](pixels), tower[1].weight[..., 1:2, 1:2], tower[1].bias)
    torch.testing.assert_close(own, centre)
    assert torch.equal(own[..., 1:], moved[..., 1:]) and not torch.equal(own[..., 0], moved[..., 0])
    assert not torch.equal(usual[..., 3:], changed[..., 3:])


def test_a_bar_below_a_tile_is_the_tile_s_where_none_is_above_the_first() -> None:
    bar = Places(np.full((4, 2), np.nan), np.zeros((4, 2)), np.zeros(4))
    cut = laid_out(3, 4, top=40, width=40)
    tiles = [laid_out(4, 4, width=40), laid_out(4, 4, left=40, width=40), joined(cut, bar)]
    last = laid_out(3, 4, left=40, top=40, width=40)
    places = joined(*tiles, joined(last, bar))
    grids = find_grids(places, np.ones(64, dtype=bool), 80, 70)
    assert [grid.tokens.tolist() for grid in grids] == np.arange(64).reshape(4, 4, 4).tolist()


class Permuted(nn.Module):
    """The projector of a model whose patches come in another order."""

    def __init__(self, projector: nn.Module, order: torch.Tensor) -> None:
        super().__init__()
        self.projector, self.order = projector, order

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.projector(features)[:, self.order]


class Resampler(nn.Module):
    """As many learned queries as there were patches but one, each of which looks at all of them."""

    def __init__(self, projector: nn.Module, n: int, hidden: int) -> None:
        super().__init__()
        self.projector, self.n = projector, n
        self.queries = nn.Parameter(torch.randn(1, n - 1, hidden))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        patches = self.projector(features)
        seen = nn.functional.scaled_dot_product_attention(self.queries.expand(len(patches), -1, -1), patches, patches)
        return torch.cat([seen, seen[:, :1]], dim=1)


class Blind(nn.Module):
    """Image tokens that the image does not reach."""

    def __init__(self, projector: nn.Module) -> None:
        super().__init__()
        self.projector = projector

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(self.projector(features))


def order(kind: str) -> torch.Tensor:
    cells = torch.arange(16)
    return {
        "shuffled": torch.randperm(16, generator=torch.Generator().manual_seed(1)),
        "column by column": cells.reshape(4, 4).T.flatten(),
        "from right to left": cells.reshape(4, 4).flip(1).flatten(),
    }[kind]


def changed(change: Callable[[nn.Module], nn.Module]) -> tuple[Any, Any]:
    model, processor = FAMILY_BUILDERS["llava"]()
    capture.install(model.eval())
    model.model.multi_modal_projector = change(model.model.multi_modal_projector)
    return model, processor


@pytest.mark.parametrize("kind", ["shuffled", "column by column", "from right to left"])
def test_patches_in_another_order_are_no_plain_grid(kind: str, small: None) -> None:
    with pytest.raises(ModelError, match=r"cannot place the 16 image tokens.*(reading order|tiles)"):
        probe(*changed(lambda projector: Permuted(projector, order(kind))))


def test_rows_that_come_from_the_bottom_up_are_placed_where_they_look(small: None) -> None:
    upward = torch.arange(16).reshape(4, 4).flip(0).flatten()
    prepared = probe(*changed(lambda one: Permuted(one, upward))).prepare(noise(90, 90, seed=3), ["it"], PROMPT)
    start = int(prepared.image_tokens.min())
    assert (prepared.image_tokens - start).tolist() == upward.tolist()


def test_patches_in_reading_order_through_the_same_wrapper_are_placed(small: None) -> None:
    adapter = probe(*changed(lambda projector: Permuted(projector, torch.arange(16))))
    assert adapter.found()["views"][0]["rows"] == 4


def test_the_queries_of_a_resampler_belong_to_no_place(small: None) -> None:
    with pytest.raises(ModelError, match=r"cannot place the 16 image tokens.*model of another family"):
        probe(*changed(lambda projector: Resampler(projector, 16, 32)))


def test_a_decoder_that_the_image_does_not_reach_is_refused(small: None) -> None:
    with pytest.raises(ModelError, match=r"no token of the decoder's own sequence changes.*cross-attention"):
        probe(*changed(Blind))


def test_an_encoder_decoder_is_refused(small: None) -> None:
    model, processor = changed(lambda projector: projector)
    model.config.is_encoder_decoder = True
    with pytest.raises(ModelError, match="encoder-decoder"):
        probe(model, processor)


@pytest.mark.parametrize("model_type", ["blip-2", "mllama", "idefics2", "florence2", "lfm3_vl"])
def test_a_family_that_can_have_no_adapter_is_refused_before_it_loads(model_type: str) -> None:
    with pytest.raises(ModelError, match=f"'{model_type}' model, which cannot be used"):
        adapter_of(ModelConfig(adapter="probe"), model_type, "a/b")


def test_a_family_without_adapter_hears_of_the_probe() -> None:
    with pytest.raises(ModelError, match=r"model\.adapter=probe"):
        adapter_of(ModelConfig(), "fast_vlm", "a/b")
    assert adapter_of(ModelConfig(adapter="probe"), "fast_vlm", "a/b") is ProbedAdapter
    with pytest.raises(ConfigError, match="probe, or null"):
        ModelConfig(adapter="prob")


def test_a_trained_checkpoint_loads_with_the_probe_and_copies_share_what_it_finds() -> None:
    adapter = load_lvlm(ModelConfig(adapter="probe"), EngineConfig(device="cpu")).adapter
    twin = copy.deepcopy(adapter)
    assert isinstance(adapter, ProbedAdapter) and isinstance(twin, ProbedAdapter)
    assert twin.probe is adapter.probe and twin.processor is not adapter.processor
    by_hand = FAMILIES[adapter.config.model_type](adapter.processor, adapter.config, Preprocess.pad)
    found, expected = (one.prepare(noise(200, 150, seed=3), ["it"], PROMPT) for one in (twin, by_hand))
    assert found.prefix.tolist() == expected.prefix.tolist() and apart(found, expected) < 0.5


def laid_out(rows: int, cols: int, breaks: int = 0, left: float = 0, top: float = 0, width: float = 100) -> Places:
    """Where the tokens of a grid look, each row ended by so many breaks."""
    x = np.tile(np.append((np.arange(cols) + 0.5) * width / cols + left, [np.nan] * breaks), rows)
    y = np.repeat((np.arange(rows) + 0.5) * width / rows + top, cols + breaks)
    seen = np.isfinite(x)
    sizes = np.where(seen[:, None], [width / cols, width / rows], 0.0)
    return Places(np.stack([x, np.where(seen, y, np.nan)], axis=1), sizes, np.where(seen, 9.0, 0.0))


def joined(*parts: Places) -> Places:
    fields = ("centres", "sizes", "contrast")
    return Places(*(np.concatenate([getattr(part, field) for part in parts]) for field in fields))


def test_views_tiles_and_breaks_in_one_prompt_are_told_apart() -> None:
    corners = [(0, 0), (50, 0), (0, 50), (50, 50)]
    tiles = [laid_out(6, 6, left=left, top=top, width=50) for left, top in corners]
    places = joined(*tiles, laid_out(6, 6), laid_out(9, 7, breaks=1))
    grids = find_grids(places, places.contrast > 0, 100, 100)
    assert [grid.tokens.shape for grid in grids] == [(6, 6)] * 5 + [(9, 7)]
    assert whole_view(grids, places, tiles=False).tokens.tolist() == (144 + np.arange(36)).reshape(6, 6).tolist()
    assert whole_view(grids, places, tiles=True).tokens[:, -1].tolist() == (186 + 8 * np.arange(9)).tolist()
    side_by_side = whole_view(grids[:5], places, tiles=True)
    assert side_by_side.tokens.shape == (12, 12) and side_by_side.tokens[0, 6] == 36
    np.testing.assert_allclose(side_by_side.geometry.scale, 0.12, rtol=1e-6)
