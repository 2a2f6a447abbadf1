"""Numbers by several criteria, and sums of maps, out of a store: as worked out map by map, and only once."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from locheads.discovery.config import CriterionConfig
from locheads.discovery.scores import score
from locheads.geometry import stretched
from locheads.grounding.sinks import sinks_of, total_maps
from locheads.map_numbers import spatial_entropy
from locheads.pipeline import head_numbers as module
from locheads.pipeline import sink_cells as sinks_module
from locheads.pipeline.head_numbers import head_numbers
from locheads.pipeline.processes import processes
from locheads.pipeline.sink_cells import sink_cells
from locheads.store.attention_store import AttentionStore
from locheads.store.packed_maps import rounded
from locheads.types import Attention, HeadIndex, ImageGroup, Sample

OWN = CriterionConfig()
OTHERS = [
    CriterionConfig(weighting="mass"),
    CriterionConfig(floor="relu_mean_eps"),
    CriterionConfig(score="map_entropy"),
]
GEOMETRY = stretched(60, 40, 5, 6)


def group(number: int, samples: int = 3) -> ImageGroup:
    ids = [f"{number}-{i}" for i in range(samples)]
    mask = {"size": [40, 60], "counts": ""}
    own = tuple(Sample(one, one, "it", (0.0, 0.0, 9.0, 9.0), mask, "c") for one in ids)
    return ImageGroup(str(number), Path("absent.png"), 60, 40, own)


def attention(of: ImageGroup, by: CriterionConfig | None = OWN) -> Attention:
    rng = np.random.default_rng(int(of.image_id))
    maps = rng.gamma(0.2, size=(len(of.samples), 2, 3, 5, 6)).astype(np.float32) / 100
    maps[:, 0, 0, 0, 1] = 0.5
    ids = tuple(sample.sample_id for sample in of.samples)
    maps = rounded(maps)  # what the attention pass works numbers out of
    bare = Attention(of.image_id, ids, maps, maps.sum(axis=(-2, -1)), GEOMETRY)
    if by is None:
        return bare
    return Attention(of.image_id, ids, maps, bare.sums, GEOMETRY, None, None, score(bare, by), by.numbers_key())


def filled(folder: Path, groups: list[ImageGroup], by: CriterionConfig | None = OWN) -> AttentionStore:
    store = AttentionStore(folder, {"model": "m"})
    store.write([attention(one, by) for one in groups])
    return store


@pytest.mark.parametrize("by", [OWN, None], ids=["beside the maps", "not stored"])
def test_numbers_by_every_criterion_are_those_of_the_maps(tmp_path: Path, by: CriterionConfig | None) -> None:
    groups = [group(number) for number in range(3)]
    store = filled(tmp_path, groups, by)
    for _ in range(2):  # worked out, and read again
        found = head_numbers(store, [*groups, group(9)], [OWN, *OTHERS])
        for scores, criterion in zip(found, [OWN, *OTHERS], strict=True):
            assert scores.sample_ids == tuple(s.sample_id for one in groups for s in one.samples)
            expected = [score(a, criterion) for a in store.read(groups)]
            assert set(scores.numbers) == set(expected[0].numbers)
            for name in ("sums", "bottom_row", *{*scores.numbers}.difference({"entropy"})):
                np.testing.assert_array_equal(scores[name], np.concatenate([one[name] for one in expected]))
        maps = np.concatenate([a.maps for a in store.read(groups)]).reshape(-1, 5, 6)
        singly = [spatial_entropy(one[None], weighting="mass")[0] for one in maps]
        np.testing.assert_array_equal(found[1]["entropy"].ravel(), singly)
    assert not np.array_equal(found[0]["entropy"], found[1]["entropy"])


def test_they_are_worked_out_once_and_again_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [group(number) for number in range(3)]
    store = filled(tmp_path, groups)
    before = head_numbers(store, groups, [OWN, *OTHERS])
    reopened = AttentionStore(tmp_path, {"model": "m"})
    monkeypatch.setattr(AttentionStore, "_load", _without_maps(AttentionStore._load))
    after = head_numbers(reopened, groups, [OWN, *OTHERS])
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one["entropy"], other["entropy"])
    with pytest.raises(AssertionError, match="maps were read"):
        head_numbers(reopened, groups[:2], [OWN, *OTHERS])
    with pytest.raises(AssertionError, match="maps were read"):
        head_numbers(reopened, groups, [OWN, *OTHERS[:2]])
    monkeypatch.setattr(module, "code_digest", lambda _: "other code")
    with pytest.raises(AssertionError, match="maps were read"):
        head_numbers(reopened, groups, [OWN, *OTHERS])
    assert len(head_numbers(reopened, groups[:2], [OWN])) == 1


def _without_maps(load):
    def only_numbers(self, entry, rows, heads):
        assert heads == [], "maps were read"
        return load(self, entry, rows, heads)

    return only_numbers


def test_sinks_are_those_of_all_maps_and_added_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locheads.pipeline.processes.CHUNK", 2)
    groups = [group(number) for number in range(5)]
    store = filled(tmp_path, groups)
    run = SimpleNamespace(store=store, inputs=SimpleNamespace(discovery=groups))
    expected = {factor: sinks_of(total_maps(store.read(groups)), factor) for factor in (1.5, 5.0)}
    for _ in range(2):
        with processes(store, 1, len(groups)) as each:
            found = sink_cells(run, [5.0, 1.5, 5.0], each)
            assert list(found) == [1.5, 5.0] and sink_cells(run, [], each) == {}
        for factor, cells in found.items():
            np.testing.assert_array_equal(cells.of_heads[5, 6], expected[factor].of_heads[5, 6])
            np.testing.assert_array_equal(cells.of_mean[5, 6], expected[factor].of_mean[5, 6])
        monkeypatch.setattr(sinks_module, "_totals", lambda *_: pytest.fail("maps were added up again"))
    assert np.argwhere(found[5.0].get((5, 6), [HeadIndex(0, 0)])[0]).tolist() == [[0, 1]]
