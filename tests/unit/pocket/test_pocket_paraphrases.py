"""Two expressions of one object without a common word: each fits it alone, which a loop over all others says."""

import json

import numpy as np

from locheads.pocket.dataset import POCKET, ensure_dataset, split_scenes
from locheads.pocket.paraphrases import PARAPHRASES, paraphrases
from locheads.pocket.scenes import sample_scene

SAY_NOTHING = {"the", "object"}


def words_of(text):
    return set(text.split()) - SAY_NOTHING


def fits(item, words):
    return words <= {item.shape, item.colour, item.texture}


def test_both_fit_the_object_alone_and_share_no_word():
    found = 0
    for seed in range(60):
        scene, rng = sample_scene(seed), np.random.default_rng(seed)
        for target, item in enumerate(scene.objects):
            if (texts := paraphrases(scene, target, rng)) is None:
                continue
            found += 1
            first, second = map(words_of, texts)
            assert first and second and not first & second and item.shape in second
            for words in (first, second):
                assert [i for i, other in enumerate(scene.objects) if fits(other, words)] == [target]
    assert found > 60


def test_none_where_an_object_needs_a_common_word():
    """Of every object without a pair there is indeed none: all two sets of words are tried."""
    missing = 0
    for seed in range(60):
        scene = sample_scene(seed)
        for target, item in enumerate(scene.objects):
            if paraphrases(scene, target, np.random.default_rng(0)) is not None:
                continue
            missing += 1
            named = [{item.shape}, {item.shape, item.colour}, {item.shape, item.texture}]
            others = [{item.colour, item.texture}, {item.texture}, {item.colour}]
            both = [(a, b) for a in named for b in [*others] if not a & b]
            alone = [all(sum(fits(o, words) for o in scene.objects) == 1 for words in pair) for pair in both]
            assert not any(alone)
    assert missing > 10


def test_the_data_have_the_expected_digest_and_scenes_of_their_own(tmp_path):
    root = ensure_dataset(tmp_path, PARAPHRASES)
    assert json.loads((root / "manifest.json").read_text())["annotations"] == PARAPHRASES.digest
    own = {i for split in PARAPHRASES.splits for i, _ in split_scenes(split, PARAPHRASES)}
    assert not own & {i for split in POCKET.splits for i, _ in split_scenes(split)}
