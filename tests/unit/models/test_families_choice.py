"""Which adapter a model gets, and what is said of models that have none."""

from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from families import FAMILY_BUILDERS, NEED_PACKAGES
from family_parts import Family
from transformers import AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from locheads.errors import ModelError
from locheads.geometry import Preprocess
from locheads.models.adapters import FAMILIES, REFUSED, adapter_class
from locheads.models.adapters.own_aspect import PixtralAdapter
from locheads.models.adapters.square_view import LlavaAdapter
from locheads.models.variants import VARIANTS


@pytest.mark.parametrize(
    "model_type",
    ["florence2", "mllama", "blip-2", "instructblip", "idefics", "idefics2", "pix2struct", "qwen3_5", "aria"],
)
def test_a_model_without_image_tokens_in_its_decoder_is_refused_with_the_reason(model_type: str) -> None:
    reason = "cross-attention|Q-Former|resampler|no image tokens in its own sequence|only some layers"
    with pytest.raises(ModelError, match=f"a/b is a '{model_type}' model, which cannot be used.*({reason})"):
        adapter_class(model_type, "a/b")


@pytest.mark.parametrize("model_type", ["video_llava", "fast_vlm", "glm_ocr"])
def test_a_model_that_could_have_an_adapter_says_which_file_to_write(model_type: str) -> None:
    with pytest.raises(ModelError, match=rf"adapters/{model_type}\.py after TEMPLATE\.md.*FAMILIES"):
        adapter_class(model_type, "a/b")


def test_a_model_that_transformers_does_not_know_is_told_apart() -> None:
    with pytest.raises(ModelError, match=r"'internvl_chat' model in its authors' own format.*InternVL3-8B-hf"):
        adapter_class("internvl_chat", "OpenGVLab/InternVL2-8B")
    with pytest.raises(ModelError, match=r"'mgm_gemma' model, which transformers does not know.*models\.convert"):
        adapter_class("mgm_gemma", "YanweiLi/MGM-2B")


def test_every_family_is_one_that_transformers_can_load_and_that_has_a_test() -> None:
    known = set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES) | {config.model_type for config in VARIANTS}
    assert set(FAMILIES) <= known
    assert not set(FAMILIES) & set(REFUSED)
    assert set(FAMILIES) <= set(FAMILY_BUILDERS) | {build.__name__ for build in NEED_PACKAGES}


@pytest.mark.parametrize("build", list(NEED_PACKAGES))
def test_what_a_family_needs_is_there_or_its_tests_are_left_out(build: Callable[[], Family]) -> None:
    if absent := [package for package in NEED_PACKAGES[build] if find_spec(package) is None]:
        pytest.skip(f"no {' and no '.join(absent)}: make families runs the tests with them")
    assert FAMILY_BUILDERS[build.__name__] is build


def test_refused_families_carry_names_that_transformers_uses() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert set(REFUSED) <= set(CONFIG_MAPPING_NAMES)


def test_a_llava_with_pixtrals_tower_gets_pixtrals_adapter() -> None:
    for name, kind in (("llava", LlavaAdapter), ("llava_pixtral", PixtralAdapter)):
        model, processor = FAMILY_BUILDERS[name]()
        assert type(adapter_class("llava", "x")(processor, model.config, Preprocess.native)) is kind


@pytest.mark.parametrize("name", list(FAMILY_BUILDERS))
def test_the_builders_make_what_a_checkpoint_of_the_family_loads_as(name: str) -> None:
    model, _ = FAMILY_BUILDERS[name]()
    assert type(AutoModelForImageTextToText.from_config(model.config)) is type(model)
    assert model.config.model_type in FAMILIES
    again = FAMILY_BUILDERS[name]()[0]
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
