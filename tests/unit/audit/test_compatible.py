"""The set of readings that targets leave: it holds the one that made them, and only many targets make it small."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from locheads.audit.choice_grid import Change, Choice
from locheads.audit.compatible import compatible, in_common, target_columns, variants
from locheads.audit.config import METRICS, AuditConfig
from locheads.audit.confirmation import confirming, picked_again
from locheads.audit.paper_targets import paper_targets
from locheads.audit.targets import Target
from locheads.discovery.config import CriterionConfig, SelectionConfig
from locheads.errors import ConfigError, StoreError
from locheads.grounding.config import GroundingConfig

IMAGES, READINGS, RUNS = 60, 30, 100
STUDIES = Path(__file__).parents[3] / "experiments"
BASE = Choice(CriterionConfig(), SelectionConfig(), 3, GroundingConfig())


def population(n_targets: int) -> np.ndarray:
    """[reading, target] true figures: neighbouring readings differ by some points, otherwise for each target."""
    return 0.5 + 0.35 * np.random.default_rng(7).random((READINGS, n_targets))


def measured(rates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[reading x target, image, metric, 2]: hits of 1 to 8 expressions per image, hard images being hard for all; the
    mean over images of the kind is `rates` (a uniform shift of up to 0.1 either way)."""
    n = rng.integers(1, 9, IMAGES)
    hard = rng.uniform(-0.1, 0.1, IMAGES)
    sums = np.zeros((rates.size, IMAGES, len(METRICS), 2))
    sums[:, :, 0, 0] = rng.binomial(n, rates.reshape(-1, 1) + hard)
    sums[:, :, 0, 1] = n
    return sums


def sets(n_targets: int, planted: int = 3, off: float = 0.0) -> np.ndarray:
    """[run, reading]: those that are compatible with what the planted one gives over all images of the kind."""
    rates = population(n_targets)
    targets = [Target(METRICS[0], round(rates[planted, j] + off, 3)) for j in range(n_targets)]
    at = np.arange(rates.size).reshape(rates.shape)
    found = []
    for seed in range(RUNS):
        columns = target_columns(targets, at, measured(rates, np.random.default_rng(seed)), [])
        found.append(compatible(np.stack([columns[f"target_{j}_p"] for j in range(n_targets)], axis=1), 0.95))
    return np.array(found)


def test_the_planted_reading_is_in_the_set_which_is_small_only_with_many_targets() -> None:
    one, many = sets(1), sets(8)
    assert one[:, 3].mean() >= 0.95 and many[:, 3].mean() >= 0.95
    assert one.sum(axis=1).mean() > 6, "one figure does not identify one of thirty"
    assert many.sum(axis=1).mean() < 1.5
    # A figure that the planted reading does not give rules it out.
    assert sets(8, off=0.1)[:, 3].mean() < 0.5


def test_a_choice_without_heads_is_compatible_with_nothing() -> None:
    sums = measured(np.full((2, 1), 0.6), np.random.default_rng(0))
    columns = target_columns([Target(METRICS[0], 0.6)], np.array([[0], [1]]), sums, [1])
    assert np.isnan(columns["target_0"][1]) and columns["target_0_p"].tolist()[1] == 0
    assert columns["target_0_p"][0] > 0.05


def test_a_printed_figure_stands_for_all_that_is_printed_so() -> None:
    sums = np.zeros((1, 4, len(METRICS), 2))
    sums[:, :, 0] = [8654, 10000]
    columns = target_columns([Target(METRICS[0], v) for v in (0.865, 0.866)], np.array([[0, 0]]), sums, [])
    assert columns["target_0_p"][0] == 1 and columns["target_1_p"][0] < 1


def test_each_target_is_measured_with_its_own_settings_and_nothing_twice() -> None:
    two_heads, sigma = Change("heads.k", {"k": 2}), Change("grounding.sigma", {"sigma": 0.0})
    readings = [BASE, BASE.changed(two_heads), BASE.changed(sigma)]
    found = variants(readings, [[], [two_heads], [sigma]])
    assert found.at[:, 0].tolist() == [0, 1, 2]
    assert found.at[0].tolist() == [0, 1, 2]
    assert [found.choices[i].k for i in found.at[:, 1]] == [2, 2, 2]
    assert [found.choices[i].grounding.sigma for i in found.at[:, 1]] == [1.0, 1.0, 0.0]
    assert len(found.choices) == 4 and found.choices[:3] == tuple(readings)


def test_what_members_share_is_counted_with_the_own_value_where_nothing_is_changed() -> None:
    frame = pd.DataFrame({"heads.k": [None, "2", "2", None], "grounding.box": [None, None, "hull", None]})
    rows = in_common(frame, {"heads.k": "3", "grounding.box": "component"}, np.array([False, True, True, False]))
    assert rows[0] in ({"option": "heads.k", "value": "2", "members": 2, "readings": 2},
                       {"option": "heads.k", "value": "3", "members": 0, "readings": 2})  # fmt: skip
    assert {"option": "grounding.box", "value": "component", "members": 1, "readings": 3} in rows


def test_the_best_of_equals_is_worth_less_where_it_had_no_say() -> None:
    rng, drop, again = np.random.default_rng(0), [], []
    for seed in range(60):
        hits = rng.binomial(5, 0.6, (50, IMAGES)).astype(float)
        tops, bottoms = hits, np.full(hits.shape, 5.0)
        confirm = confirming(IMAGES, 0.5, seed)
        assert confirm.sum() == 30
        picked = int(hits[:, ~confirm].sum(axis=1).argmax())
        drop.append(hits[picked, ~confirm].mean() / 5 - hits[picked, confirm].mean() / 5)
        again.append(picked_again(tops, bottoms, seed))
    assert np.mean(drop) > 0.05
    assert np.mean(again) < 0.4
    clear = np.vstack([hits, np.full((1, IMAGES), 5.0)]), np.full((51, IMAGES), 5.0)
    assert picked_again(*clear, 0) == 1
    assert picked_again(*clear, 0, target=1.0) == 1
    assert picked_again(*clear, 0, higher_is_better=False) < 1


def test_the_papers_figures_are_those_of_its_tables() -> None:
    one = paper_targets(STUDIES, "LLaVA-1.5-7B", ("refcoco", "val"), ["rec_acc@0.5", "res_ciou"])
    found = {(target.metric, target.changed): target.value for target in one}
    assert found == {
        ("rec_acc@0.5", ""): 0.865, ("res_ciou", ""): 0.742, ("res_ciou", "heads.k=1"): 0.703,
        ("res_ciou", "heads.k=2"): 0.731, ("res_ciou", "heads.k=3"): 0.742, ("res_ciou", "heads.k=4"): 0.741,
        ("res_ciou", "heads.k=5"): 0.654,
    }  # fmt: skip
    (plus,) = paper_targets(STUDIES, "LLaVA-1.5-7B", ("refcoco+", "testA"), ["rec_acc@0.5"])
    assert (plus.value, plus.source) == (0.863, "table1_rec, refcoco+ testA")
    larger = paper_targets(STUDIES, "LLaVA-1.5-13B", ("refcoco", "val"), ["rec_acc@0.5"])
    by = {target.changed: target.value for target in larger}
    assert len(by) == 1 + 6 + 12
    assert by["grounding.sigma=1.8"] == 0.843 and by["grounding.kernel=1"] == 0.855
    assert by["selection.kind=greedy, criterion.score=s_img_entropy"] == 0.674


def test_without_figures_the_paper_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"audit.paper=LLaVA-1.5-7B: the paper has no figure of rec_acc@0.5 for it on"
    ):
        paper_targets(STUDIES, "LLaVA-1.5-7B", ("pocket", "val"), ["rec_acc@0.5"])
    with pytest.raises(StoreError, match=r"paths.studies must be the folder experiments/"):
        paper_targets(tmp_path, "LLaVA-1.5-7B", ("refcoco", "val"), ["rec_acc@0.5"])


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ({"value": 86.5}, r"value must lie between 0 and 1 \(0.865, not 86.5\)"),
        ({"metric": "res_ciou"}, "value must lie between 0 and 1"),
        ({"value": 0.5, "metric": "acc"}, "metric must be one of rec_acc@0.5"),
        ({"value": 0.5, "model.id": "x"}, "model.id is no setting of criterion, selection, heads, grounding"),
    ],
)
def test_a_target_that_is_none_is_refused(target: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        AuditConfig(targets=[target])


def test_one_target_and_a_list_of_them_are_one_list() -> None:
    config = AuditConfig(target=0.8, targets=[{"value": 1, "metric": "res_ciou", "heads.k": 2}])
    assert config.own_targets() == [Target("rec_acc@0.5", 0.8), Target("res_ciou", 1.0, {"heads.k": 2})]
