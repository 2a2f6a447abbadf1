"""The library: every example of docs/library.md runs, and gives what a run gives."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import locheads
from locheads import (
    CriterionConfig,
    DependenceConfig,
    GroundingConfig,
    HeadIndex,
    ModelConfig,
    PromptConfig,
    attend,
    attention_sum,
    discover_heads,
    evaluate,
    load_model,
    read_samples,
    spatial_entropy,
)
from locheads.data.image_files import open_image
from locheads.dependence.head_dependence import head_dependence
from locheads.dependence.overlaps import joined, overlaps_of, smoothed, table_of
from locheads.dependence.pairs import pairs_of, with_paraphrases
from locheads.dependence.word_verdict import judge
from locheads.discovery.criteria import CRITERIA, Criterion
from locheads.errors import ConfigError, DataError, DiscoveryError
from locheads.records.heads_file import HeadsFile

PAGE = Path(__file__).parents[2] / "docs/library.md"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def val(cache):
    return read_samples("val", cache=cache)


@pytest.fixture(scope="module")
def page(tmp_path_factory, cache, val):
    """The names that the page's examples define, run in their order in an empty folder but for the pocket data."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "outputs").mkdir()
    (folder / "outputs/cache").symlink_to(cache)
    open_image(val[0]).save(folder / "scene.jpg")
    names: dict = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)):
            exec(compile(block, f"block {number} of {PAGE.name}", "exec"), names)
    return names | {"folder": folder}


@pytest.fixture
def there(page, monkeypatch):
    """The page's names, in its folder, from which its images are named."""
    monkeypatch.chdir(page["folder"])
    return page


def test_the_page_shows_every_public_name():
    settings = {name for name in locheads.__all__ if name.endswith("Config")}
    results = {"Attention", "FoundHeads", "Grounding", "HeadIndex", "HeadSet", "ImageGroup", "Judgement", "LoadedModel"}
    functions = [name for name in locheads.__all__ if name not in settings | results | {"Sample"}]
    assert len(functions) > 10
    assert [name for name in functions if name not in PAGE.read_text()] == []


def test_every_public_name_is_there_and_importing_the_package_loads_no_torch():
    assert sorted(locheads._HOMES) == locheads.__all__
    assert [name for name in locheads.__all__ if getattr(locheads, name) is None] == []
    code = "import locheads, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2


def test_the_page_grounds_and_attends(page):
    assert page["result"].mask.any()
    maps = page["maps"]
    assert maps.shape == (2, 8, 8, 24, 24)
    np.testing.assert_allclose(attention_sum(maps)[1, 3, 2], maps[1, 3, 2].astype(float).sum(), rtol=1e-5)


def test_the_page_discovers_the_heads_of_the_model_that_the_user_loaded(page, monkeypatch):
    """The stock model, loaded by the library, gives the same maps and the same heads."""
    monkeypatch.chdir(page["folder"])
    stock = load_model("pocket")
    again = discover_heads(stock, page["train"], k=3)
    assert page["found"].heads == again.heads
    np.testing.assert_array_equal(page["found"].discovery.frequency_mean, again.discovery.frequency_mean)
    assert page["judgement"].agreement == pytest.approx(
        np.mean([head in again.heads for top in again.discovery.ranking_per_trial() for head in top[:3]])
    )
    assert [each["n"] for each in page["judgement"].stability] == [10, 20]
    frequencies = np.sort(again.discovery.frequency_mean, axis=None)[::-1]
    assert page["judgement"].margin == pytest.approx(frequencies[2] - frequencies[3])


def test_the_saved_heads_are_read_by_all_who_read_a_runs(page):
    written = locheads.load_heads(page["folder"] / "heads.json")
    assert (written.heads, written.found_on, written.layers) == (page["found"].heads, ("pocket", "train"), 8)
    assert page["grounder"].heads == page["found"].heads
    half = sum(len(group.samples) for group in page["train"]) // 2
    assert written.source == f"found with the library on {half} samples in each of 5 trials"
    kept = HeadsFile.read(page["folder"])
    assert (kept.n_samples, kept.trials, kept.k) == (half, 5, 3)
    assert kept.criterion["candidates"] == 10 and (kept.n_failed, kept.selection, kept.seed) == (0, "fixed", 0)
    np.testing.assert_array_equal(kept.frequency_mean, page["found"].discovery.frequency_mean)


def test_the_page_evaluates_boxes(page, val):
    samples = [(group, sample) for group in val[:20] for sample in group.samples]
    hits = [iou(page["boxes"][sample.sample_id], sample.box) >= 0.5 for _, sample in samples]
    assert page["metrics"]["rec_acc@0.5"]["value"] == pytest.approx(np.mean(hits))
    perfect = evaluate(val[:20], {s.sample_id: s.box for _, s in samples})
    assert perfect["rec_acc@0.75"]["value"] == 1
    none = evaluate(val[:20], {})
    assert none["rec_acc@0.25"]["value"] == none["res_ciou"]["value"] == 0


def iou(box, other):
    """By hand."""
    if box is None:
        return 0.0
    width = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return width * height / (sum(areas) - width * height)


def test_masks_count_as_they_are(val):
    from pycocotools import mask as coco

    samples = [sample for group in val[:5] for sample in group.samples]
    masks = {sample.sample_id: coco.decode(sample.mask).astype(bool) for sample in samples}
    found = evaluate(val[:5], {}, masks)
    assert found["res_ciou"]["value"] == found["res_miou"]["value"] == 1
    boxes = {sample.sample_id: sample.box for sample in samples}
    assert evaluate(val[:5], boxes)["res_ciou"]["value"] < 1  # objects are no rectangles
    empty = evaluate(val[:5], boxes, {key: np.zeros_like(mask) for key, mask in masks.items()})
    assert (empty["res_ciou"]["value"], empty["rec_acc@0.5"]["value"]) == (0, 1)


def test_the_criteria_take_any_leading_axes():
    maps = np.zeros((2, 3, 6, 6))
    maps[..., 0, 0] = 0.2
    maps[1, 2, 5, 5] = 0.2
    assert attention_sum(maps).tolist() == [[pytest.approx(0.2)] * 3, [pytest.approx(0.2)] * 2 + [pytest.approx(0.4)]]
    entropy = spatial_entropy(maps)
    assert entropy.shape == (2, 3)
    assert entropy[1, 2] == pytest.approx(np.log(2))
    assert entropy[0].tolist() == [0, 0, 0]
    assert spatial_entropy(maps[0, 0]).shape == ()
    assert np.isinf(spatial_entropy(np.full((4, 4), 0.1)))
    assert spatial_entropy(maps, CriterionConfig(weighting="mass"))[1, 2] == pytest.approx(np.log(2))


SCENE = Image.new("RGB", (60, 40))


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda _: attention_sum(np.ones(5)), DataError, "not float64 of shape"),
        (lambda _: attention_sum(np.ones((4, 4), dtype=int)), DataError, "not int64 of shape"),
        (lambda _: spatial_entropy(-np.ones((4, 4))), DataError, "finite and not negative"),
        (lambda _: spatial_entropy(np.full((4, 4), np.nan)), DataError, "finite and not negative"),
        (lambda _: evaluate([], {"x": (0, 0, 1, 1)}), DataError, "There is no sample 'x'"),
        (lambda m: attend(m, SCENE, "the cup"), DataError, "must be a list of texts"),
        (lambda m: attend(m, SCENE, ["a", "b"], sample_ids=["1"]), DataError, "1 sample_ids for 2 expressions"),
        (lambda m: load_model(m.model), ConfigError, "processor is missing"),
        (lambda m: load_model("pocket", m.adapter.processor), ConfigError, "belong to a transformers model"),
        (lambda m: discover_heads(m, []), DataError, "no samples"),
        (lambda m: discover_heads(m, [], draw="picture"), ConfigError, "There is no Draw 'picture': use one of expr"),
        (lambda m: load_model(m.model.train(), m.adapter.processor), ConfigError, "training mode"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(call, kind, said):
    with pytest.raises(kind, match=said):
        call(load_model("pocket") if call.__code__.co_varnames[0] == "m" else None)


def test_a_box_or_mask_that_is_none_is_refused(val):
    key, group = val[0].samples[0].sample_id, val[0]
    for box in [(0, 0, 1), (0, 0, np.nan, 1)]:
        with pytest.raises(DataError, match="four finite numbers"):
            evaluate([group], {key: box})
    for mask in [np.ones((3, 3), dtype=bool), np.ones((group.height, group.width))]:
        with pytest.raises(DataError, match="must be bool"):
            evaluate([group], {key: None}, {key: mask})
    assert evaluate([group], {key: (5, 5, 5, 9)})["rec_mean_iou"]["value"] == 0


def test_pairs_are_samples_as_groups_are(val):
    model = load_model(ModelConfig())
    group = next(group for group in val if len(group.samples) > 1)
    pairs = [(open_image(group), sample.expression) for sample in group.samples]
    one, other = (discover_heads(model, samples, k=1, n_samples=1, trials=2) for samples in (pairs, [group]))
    for name in ("sums", "entropy"):
        np.testing.assert_allclose(one.scores[name], other.scores[name], atol=1e-5)
    assert isinstance(one.heads[0], HeadIndex)
    # The same picture in several pairs is one image.
    assert one.images.tolist() == other.images.tolist() == [0] * len(pairs)


def test_the_found_heads_are_judged_as_a_run_judges_them(there, tmp_path):
    """By pairs that are made here, from maps that are asked one expression at a time."""
    found = there["found"]
    several = [with_paraphrases(g) for g in there["train"] if len({sample.ref_id for sample in g.samples}) > 1]
    every, fused = [], []
    for i, group in enumerate(several):
        maps = np.concatenate([attend(there["own"], open_image(group), [s.expression]).maps for s in group.samples])
        pairs = pairs_of(group.samples, PromptConfig())
        chosen = maps[:, [h.layer for h in found.heads], [h.head for h in found.heads]]
        every.append(table_of(overlaps_of(smoothed(maps, GroundingConfig()), pairs), pairs, i, 1 / 12))
        of_both = overlaps_of(smoothed(chosen, GroundingConfig()).sum(axis=1), pairs)
        fused.append(table_of(of_both, pairs, i, 1 / 12))
    np.testing.assert_allclose(found.dependence.dependence, head_dependence(joined(every)).dependence, atol=2e-3)
    verdict = judge(joined(fused), 2000, 0)
    assert len(several) > 10 and found.follows.n_asked == len(several) and found.follows.follows == verdict.follows
    assert found.follows.gap == pytest.approx(verdict.gap, abs=0.01)
    assert found.follows.dependence == pytest.approx(verdict.dependence, abs=2e-3)
    kept = locheads.load_heads(there["folder"] / "heads.json").follows
    assert (kept.split, kept.sentence) == ("train", found.follows.sentence)
    unsaid = locheads.load_heads(locheads.save_heads(found, tmp_path)).follows
    assert unsaid.split == "the samples that were given"


def test_what_the_words_tell_changes_no_sample_and_can_be_left_out(there):
    without = discover_heads(there["own"], there["train"], k=3, dependence=DependenceConfig(images=0))
    assert without.dependence is without.follows is None
    assert without.heads == there["found"].heads and without.scores.sample_ids == there["found"].scores.sample_ids
    np.testing.assert_allclose(without.scores["sums"], there["found"].scores["sums"], atol=1e-5)
    few = discover_heads(there["own"], there["train"], k=3, dependence=DependenceConfig(images=4)).follows
    assert (few.n_asked, few.follows.value) == (4, "unknown")


def test_criteria_that_read_the_words_rank_by_what_was_measured(there, monkeypatch):
    by_words = discover_heads(there["own"], there["train"], k=3, criterion=CriterionConfig(score="dependence"))
    order = np.argsort(-np.where(np.arange(8)[:, None] < 2, -1, by_words.dependence.dependence), axis=None)
    assert [(head.layer, head.head) for head in by_words.heads] == [divmod(int(i), 8) for i in order[:3]]
    # The first layer sees the image before any word has reached the query token.
    monkeypatch.setitem(CRITERIA, "first", Criterion(lambda scores: np.arange(64.0).reshape(8, 8) + 0 * scores["sums"]))
    with pytest.warns(UserWarning, match="do not follow the words: they look at the same place"):
        discover_heads(there["own"], there["train"], k=1, criterion=CriterionConfig(score="first", skip_layers=0))


@pytest.mark.parametrize("criterion", [{"score": "words"}, {"min_dependence": 0.5}])
def test_pairs_of_image_and_expression_say_nothing_of_the_words(there, criterion):
    pairs = [(open_image(group), sample.expression) for group in there["train"][:3] for sample in group.samples]
    with pytest.raises(DiscoveryError, match="no image has expressions for several objects"):
        discover_heads(there["own"], pairs, criterion=CriterionConfig(**criterion))
    # Nor do answers whose tokens only a run keeps.
    groups, prompt = there["train"][:2], PromptConfig(query="answer_word:1")
    assert discover_heads(there["own"], groups, prompt=prompt).follows is None


def test_whole_images_are_drawn_where_that_is_asked(val, tmp_path):
    model, groups = load_model(ModelConfig()), [group for group in val if len(group.samples) > 1][:8]
    half = len(groups[0].samples) + len(groups[1].samples)
    found = discover_heads(model, groups, k=1, n_samples=half, trials=3, draw="image")
    sizes = np.bincount(found.images)
    for trial in found.trials:
        of_each = np.bincount(found.images[trial], minlength=8)
        assert ((of_each > 0) & (of_each < sizes)).sum() <= 1
    low, high = (ends[found.heads[0].layer, found.heads[0].head] for ends in found.discovery.frequency_ends)
    kept = HeadsFile.read(locheads.save_heads(found, tmp_path).parent)
    assert (kept.draw, kept.n_images) == ("image", len(np.unique(found.images[np.concatenate(found.trials)])))
    assert kept.n_expressions == len(np.unique(np.concatenate(found.trials)))
    assert (kept.found[0].frequency_low, kept.found[0].frequency_high) == (low, high) and low < high
    assert discover_heads(model, groups, k=1, n_samples=half, trials=3).draw == "expression"
