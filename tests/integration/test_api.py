"""The library use that the README shows."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image
from safetensors.torch import load_file, save_file

from locheads import Grounder, ground
from locheads.data.config import DatasetConfig
from locheads.data.image_files import open_image
from locheads.data.refer import ReferDataSet
from locheads.discovery.headset import read_headset
from locheads.errors import ConfigError, DataError, ModelError, StoreError
from locheads.geometry import Preprocess
from locheads.grounding.config import Contrast, GroundingConfig
from locheads.grounding.contrast import PROBES
from locheads.grounding.ground_maps import ground_maps
from locheads.models.config import ModelConfig, PromptConfig
from locheads.models.identity import identify
from locheads.pocket.dataset import ensure_dataset
from locheads.types import HeadIndex

ROOT = Path(__file__).parents[2]
HEADS = ROOT / "src/locheads/heads"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    root = ensure_dataset(tmp_path_factory.mktemp("cache"))
    config = DatasetConfig(folder=str(root / "pocket"), images=str(root / "images/train2014"))
    groups = ReferDataSet(config, root / "tables").read("val")
    return open_image(next(group for group in groups if group.width != group.height))


def test_the_readmes_example_runs_as_it_stands(image, tmp_path, monkeypatch):
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)
    image.save(tmp_path / "scene.jpg")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example, names)
    result = names["result"]
    x0, y0, x1, y1 = result.box
    assert 0 <= x0 < x1 <= image.width and 0 <= y0 < y1 <= image.height
    assert result.mask.shape == (image.height, image.width)
    assert result.mask.any() and not result.mask.all()
    assert result.heatmap.shape == (24, 24)


def test_the_shipped_heads_were_found_in_the_shipped_weights():
    record = json.loads((HEADS / "pocket.json").read_text())
    assert record["made_from"]["weights"] == identify(ModelConfig()).weights


def test_an_image_may_be_a_path_an_array_or_an_image(image, tmp_path):
    image.save(tmp_path / "scene.png")
    results = [ground(image, "the red object") for image in (image, np.asarray(image), tmp_path / "scene.png")]
    for result in results[1:]:
        np.testing.assert_array_equal(result.heatmap, results[0].heatmap)


def test_a_photo_that_its_exif_turns_is_grounded_upright(image, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    turned, upright = ground(tmp_path / "turned.png", "the red object"), ground(image, "the red object")
    np.testing.assert_array_equal(turned.heatmap, upright.heatmap)
    assert turned.box == upright.box


def test_other_heads_give_another_map(image):
    own, other = ground(image, "the red object"), ground(image, "the red object", heads=("L0H0",))
    assert np.abs(own.heatmap / own.heatmap.sum() - other.heatmap / other.heatmap.sum()).max() > 1e-3
    assert Grounder("pocket", ["L2H1", "L3H0"]).heads == (HeadIndex(2, 1), HeadIndex(3, 0))


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (
            {"model": "pocket", "heads": "llava_1_5_7b"},
            ConfigError,
            "32 layers of 32 heads, but this model has 8 layers of 8 heads",
        ),
        ({"heads": ("24",)}, StoreError, "'24' is no head"),
        ({"heads": ("L99H0",)}, ConfigError, "L99H0 is not in this model, which has 8 layers of 8 heads"),
        ({"heads": "nowhere.json"}, StoreError, "There is no head set nowhere.json"),
        ({"heads": []}, ConfigError, "There are no heads: name at least one"),
        ({"heads": ["L3H0", "L3H0"]}, ConfigError, "L3H0 is named 2 times"),
        ({"heads": "L3H0,L99H1"}, ConfigError, "L99H1 is not in this model"),
        ({"heads": [(3, 0)]}, StoreError, "(3, 0) is no head"),
        ({"heads": 3}, ConfigError, "heads must be a head set or names"),
        ({"heads": ""}, StoreError, "There is no head set"),
        ({"model": "pokcet"}, ConfigError, "There is no model pokcet"),
        ({"model": 3}, ConfigError, "model must be a name, a hub id or a folder, not int"),
        ({"model": "/no/such"}, ModelError, "There is no folder /no/such"),
    ],
)
def test_mistakes_are_one_sentence(arguments, error, says):
    with pytest.raises(error, match=re.escape(says)):
        ground(Image.new("RGB", (64, 64)), "the red object", **arguments)


def test_a_model_whose_heads_nobody_published_is_named(tmp_path):
    other = tiny.write_checkpoint(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"Which heads of .*model localize is not known: .*llava_1_5_7b"):
        ground(Image.new("RGB", (64, 64)), "the red object", model=str(other))


def test_a_headset_file_grounds_as_its_names_do(image):
    by_file, by_name = (ground(image, "the red object", heads=h) for h in (str(HEADS / "pocket.json"), "pocket"))
    names = [str(head) for head in read_headset("pocket").heads]
    named = ground(image, "the red object", heads=names)
    assert by_file.box == by_name.box == named.box
    np.testing.assert_array_equal(by_file.heatmap, named.heatmap)


SET = tiny.headset(
    [HeadIndex(3, 0), HeadIndex(2, 4)],
    (8, 8),
    model={"id": "pocket", "preprocess": "squash", "tiles": False},
    prompt="Find <image> {expression}",
    prompt_settings={"name": "own", "template": "Find <image> {expression}", "full_stop": False, "query": "last"},
)


def test_a_head_set_is_asked_as_it_was_found(image, tmp_path, recwarn):
    (tmp_path / "heads.json").write_text(SET)
    found = ground(image, "the red object", heads=tmp_path / "heads.json")
    prompt = PromptConfig("own", "Find <image> {expression}", full_stop=False)
    asked = Grounder(ModelConfig(preprocess=Preprocess.squash), ["L3H0", "L2H4"], prompt=prompt)
    by_hand = asked(image, "the red object")
    np.testing.assert_array_equal(found.heatmap, by_hand.heatmap)
    assert found.box == by_hand.box
    assert not recwarn
    # The negative control: each of the two matters.
    for other in (
        Grounder(ModelConfig(), ["L3H0", "L2H4"], prompt=prompt),
        Grounder(ModelConfig(preprocess=Preprocess.squash), ["L3H0", "L2H4"]),
    ):
        assert np.abs(other(image, "the red object").heatmap - found.heatmap).max() > 1e-3


def test_what_contradicts_the_head_set_is_a_warning(tmp_path):
    (tmp_path / "heads.json").write_text(SET)
    with pytest.warns(UserWarning, match="preprocess=squash, and images are prepared with preprocess=pad here"):
        Grounder(ModelConfig(), tmp_path / "heads.json")
    with pytest.warns(UserWarning, match="found with another prompt"):
        Grounder("pocket", tmp_path / "heads.json", prompt=PromptConfig())


def test_a_head_set_that_changes_is_read_again(image, tmp_path):
    (tmp_path / "heads.json").write_text(tiny.headset([HeadIndex(3, 0)], (8, 8)))
    before = ground(image, "the red object", heads=str(tmp_path / "heads.json"))
    (tmp_path / "heads.json").write_text(tiny.headset([HeadIndex(2, 4)], (8, 8)))
    after = ground(image, "the red object", heads=str(tmp_path / "heads.json"))
    np.testing.assert_array_equal(after.heatmap, ground(image, "the red object", heads="L2H4").heatmap)
    assert np.abs(after.heatmap - before.heatmap).max() > 1e-3


def test_the_model_is_that_of_the_head_set(image, tmp_path, recwarn):
    other = tiny.write_checkpoint(tmp_path / "model")
    (tmp_path / "heads.json").write_text(tiny.headset([HeadIndex(1, 0)], (5, 4), model=str(other)))
    found = ground(image, "the red object", heads=tmp_path / "heads.json")
    named = ground(image, "the red object", model=str(other), heads="L1H0")
    np.testing.assert_array_equal(found.heatmap, named.heatmap)
    assert not recwarn
    # The negative control: the model that is asked where nothing says which has another grid.
    assert ground(image, "the red object", heads="L1H0").heatmap.shape != found.heatmap.shape
    with pytest.raises(ConfigError, match="but this model has 8 layers of 8 heads"):
        ground(image, "the red object", model="pocket", heads=tmp_path / "heads.json")


def test_a_head_set_of_another_revision_is_a_warning(tmp_path):
    (tmp_path / "heads.json").write_text(SET.replace('"preprocess"', '"revision": "0123abc", "preprocess"'))
    with pytest.warns(UserWarning, match="found at revision 0123abc of pocket, and the one here is not pinned"):
        Grounder(ModelConfig(preprocess=Preprocess.squash), tmp_path / "heads.json")


def test_a_folder_is_prepared_as_its_family_is(image, tmp_path):
    other = tiny.write_checkpoint(tmp_path / "model")
    by_name = Grounder(str(other), "L1H0")(image, "the red object")
    by_hand = Grounder(ModelConfig(id=str(other), preprocess=Preprocess.pad), "L1H0")(image, "the red object")
    np.testing.assert_array_equal(by_name.heatmap, by_hand.heatmap)


def test_attention_that_is_not_finite_is_a_sentence(image, tmp_path):
    other = tiny.write_checkpoint(tmp_path / "model")
    weights = load_file(other / "model.safetensors")
    next(tensor for name, tensor in weights.items() if "layers.0" in name and "q_proj" in name).fill_(float("nan"))
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="attention is not finite"):
        ground(image, "the red object", model=str(other), heads=["L1H0"])


def test_an_empty_expression_and_a_missing_image_are_named(tmp_path):
    with pytest.raises(DataError, match="expression is empty"):
        ground(Image.new("RGB", (64, 64)), "  ")
    for other in (None, 7, b"the red object", ["the red object"]):
        with pytest.raises(DataError, match=r"expression must be one text \(str\), not"):
            ground(Image.new("RGB", (64, 64)), other)
    with pytest.raises(DataError, match=r"gone\.jpg is not there"):
        ground(tmp_path / "gone.jpg", "the red object")


def test_maps_are_contrasted_with_the_probes_or_with_each_other(image):
    texts = ["the red object", "the blue object", "the object at the top"]
    maps = {how: Grounder(grounding=GroundingConfig(contrast=how)) for how in Contrast}
    plain = {text: maps["none"].maps(image, text)[0] for text in [*texts, *PROBES]}
    probed, heat = maps["probes"].maps(image, texts[0])[0], ground(image, texts[0], contrast="probes").heatmap
    expected = (plain[texts[0]] - np.mean([plain[text] for text in PROBES], axis=0)).clip(0)
    np.testing.assert_allclose(probed, expected, atol=1e-5)
    np.testing.assert_array_equal(heat, maps["probes"](image, texts[0]).heatmap)
    assert np.abs(heat - ground(image, texts[0]).heatmap).max() > 1e-3, "no contrast is kept from the call before"
    found = maps["others"].each(image, texts)
    for text, own in zip(texts, found, strict=True):
        others = np.mean([plain[other] for other in texts if other != text], axis=0)
        expected = ground_maps((plain[text] - others).clip(0), own.geometry, GroundingConfig())
        np.testing.assert_allclose(own.heatmap, expected.heatmap, atol=1e-4)
    together, alone = maps["none"].each(image, texts)[1], maps["none"](image, texts[1])
    np.testing.assert_allclose(together.heatmap, alone.heatmap, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda image: ground(image, "it", contrast="others"),
            ConfigError,
            "contrast=others needs several expressions",
        ),
        (lambda image: ground(image, "it", contrast="sinks"), ConfigError, "There is no Contrast 'sinks': use one of"),
        (lambda image: Grounder().each(image, "the cup"), DataError, "The expressions must be a list of texts"),
        (lambda image: Grounder().each(image, ["the cup", 3]), DataError, "one text \\(str\\), not int"),
    ],
)
def test_what_cannot_be_contrasted_is_a_sentence(call, error, says, image):
    with pytest.raises(error, match=says):
        call(image)
