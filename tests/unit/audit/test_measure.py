"""The audit's sums against predict, score and summarise: NaN, zeros, missing samples, images of several grids."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from locheads.audit.choice_grid import Change, Choice, combinations
from locheads.audit.config import METRICS, AuditConfig, AuditMode
from locheads.audit.documented import contradictions
from locheads.audit.effect_table import audit_frame
from locheads.audit.effects import AuditPlan, criterion_key, head_key, measure
from locheads.discovery.config import CriterionConfig, SelectionConfig
from locheads.errors import ConfigError
from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.methods import HeadPlan
from locheads.evaluation.metric_table import PRIMARY
from locheads.evaluation.predict import predict
from locheads.evaluation.summarise import summarise
from locheads.evaluation.truth import Truth
from locheads.geometry import Preprocess, square_geometry, stretched
from locheads.grounding.config import (
    BoxRule,
    Component,
    GroundingConfig,
    Padding,
    Resolution,
    Rounding,
    ThresholdRule,
    Upsampling,
)
from locheads.types import Attention, HeadIndex, ImageGroup, Sample

HEADS = (HeadIndex(0, 1), HeadIndex(1, 0))
BASE = Choice(CriterionConfig(), SelectionConfig(), 2, GroundingConfig())
GROUNDINGS = [
    GroundingConfig(),
    GroundingConfig(threshold=ThresholdRule.otsu, component=Component.largest_mass),
    GroundingConfig(resolution=Resolution.image, upsampling=Upsampling.bicubic, box=BoxRule.mass_quantiles),
    GroundingConfig(resolution=Resolution.input, input_patch=3, upsampling=Upsampling.nearest, sigma=0),
    GroundingConfig(component=Component.all_cells, clamp=False),
    GroundingConfig(component=Component.all_cells, padding=Padding.ignored, rounding=Rounding.truncated),
    GroundingConfig(padding=Padding.ignored, resolution=Resolution.image, box=BoxRule.mass_quantiles),
]


def scene(number: int, tmp_path) -> tuple[ImageGroup, Attention]:
    """Twelve images (so many that sums over them are not exact by chance) of three grids."""
    rng = np.random.default_rng(number)
    width, height = ((60, 40), (40, 60), (50, 50))[number % 3]
    geometry = (
        square_geometry(width, height, 48, 8, Preprocess.pad),
        square_geometry(width, height, 48, 8, Preprocess.center_crop),
        stretched(width, height, 6, 9),
    )[number % 3]
    samples = []
    for i in range(4):
        x, y = int(rng.integers(0, width - 15)), int(rng.integers(0, height - 15))
        mask = np.zeros((height, width), dtype=np.uint8, order="F")
        mask[y : y + 14, x : x + 12] = 1
        code = coco.encode(mask)
        code["counts"] = code["counts"].decode()
        samples.append(Sample(f"{number}-{i}", f"r{i}", "it", (x, y, x + 12.0, y + 14.0), code, "c"))
    group = ImageGroup(f"{number}", tmp_path / "none.png", width, height, tuple(samples))
    maps = rng.gamma(0.3, size=(4, 2, 2, geometry.rows, geometry.cols)).astype(np.float32) / 100
    if number % 4 == 1:
        maps[1, 1, 0, 2, 3] = np.nan  # of a head that is used
        maps[2, 0, 0, 1, 1] = np.nan  # of one that is not
        maps[3] = 0
    known = 3 if number % 4 == 2 else 4  # the last sample of some images has no attention
    ids = tuple(sample.sample_id for sample in samples[:known])
    return group, Attention(group.image_id, ids, maps[:known], maps[:known].sum(axis=(-2, -1)), geometry)


def test_every_sum_is_that_of_the_pipeline(tmp_path) -> None:
    scenes = [scene(number, tmp_path) for number in range(12)]
    groups = [group for group, _ in scenes]
    choices = tuple(Choice(BASE.criterion, BASE.selection, 2, grounding) for grounding in GROUNDINGS)
    plan = AuditPlan(choices, {head_key(BASE): HEADS}, {}, {})
    sums = measure(groups, lambda _: (attention for _, attention in scenes), plan)
    frame = audit_frame(
        choices, sums[:, np.argsort([g.image_id for g in groups], kind="stable")], {}, [""] * len(choices),
        confidence=0.95, joint=dict.fromkeys(PRIMARY, 0.99),
    )  # fmt: skip
    import pandas as pd

    for i, grounding in enumerate(GROUNDINGS):
        heads = HeadPlan(HEADS, None, HEADS, ())
        rows = [row for group, a in scenes for row in predict(group, [a], heads, grounding, {})]
        predictions = pd.DataFrame([row for row in rows if row["method"] == "localization_heads"])
        scores = Truth(groups).score(predictions)
        expected = summarise(scores, EvaluationConfig())["localization_heads"]
        for metric in METRICS:
            assert frame[metric][i] == expected[metric]["value"], (i, metric)
            assert frame[f"{metric}_low"][i] == pytest.approx(expected[metric]["low"], abs=1e-12)
            assert frame[f"{metric}_high"][i] == pytest.approx(expected[metric]["high"], abs=1e-12)
        failed = predictions["error"].notna().sum()
        assert failed == 3 + 3  # NaN in a used head, and samples without attention
    assert sums[0, :, METRICS.index("rec_mean_iou"), 1].sum() == 48
    assert len({frame["rec_mean_iou"][i] for i in range(len(GROUNDINGS))}) == len(GROUNDINGS)


def test_chunks_of_images_are_measured_alike(tmp_path) -> None:
    scenes = [scene(number, tmp_path) for number in range(6)]
    choices = tuple(Choice(BASE.criterion, BASE.selection, 2, grounding) for grounding in GROUNDINGS)
    plan = AuditPlan(choices, {head_key(BASE): HEADS}, {}, {})
    together = measure([g for g, _ in scenes], lambda _: (a for _, a in scenes), plan)
    parts = [measure([g], lambda _, a=a: [a], plan) for g, a in scenes]
    np.testing.assert_array_equal(together, np.concatenate(parts, axis=1))


SIGMA = [Change("grounding.sigma", {"sigma": v}) for v in (0.0, 1.0, 2.0)]
LEVEL = [Change("grounding.threshold", {"threshold": ThresholdRule.mean, "level": v}) for v in (1.5, 2.0)]
K = [Change("heads.k", {"k": v}) for v in (1, 2)]


def test_one_at_a_time_is_the_base_and_every_other_value_once() -> None:
    found = combinations(BASE, [SIGMA, K], [LEVEL], AuditConfig())
    assert [c.changes for c in found] == [(), (SIGMA[0],), (SIGMA[2],), (K[0],), (LEVEL[0],), (LEVEL[1],)]
    assert [c.k for c in found] == [2, 2, 2, 1, 2, 2]


def test_a_product_holds_every_combination_once_and_alone_ones_take_no_part() -> None:
    found = combinations(BASE, [SIGMA, K], [LEVEL], AuditConfig(mode=AuditMode.product))
    assert len(found) == 3 * 2 + 2
    assert len({c.key for c in found}) == len(found)
    assert {(c.grounding.sigma, c.k) for c in found} == {(s, k) for s in (0.0, 1.0, 2.0) for k in (1, 2)}


def test_random_combinations_are_different_ones_and_repeat_with_the_seed() -> None:
    def draw(seed: int) -> list[str]:
        audit = AuditConfig(mode=AuditMode.random, n=4, seed=seed)
        return [c.key for c in combinations(BASE, [SIGMA, K, LEVEL], [], audit)]

    assert draw(1) == draw(1) != draw(2)
    assert len(set(draw(1))) == len(draw(1))


def test_too_many_combinations_are_refused() -> None:
    many = [[Change("heads.k", {"k": v}) for v in range(1, 200)]] * 3
    with pytest.raises(ConfigError, match="7880599 combinations, more than 20000"):
        combinations(BASE, many, [], AuditConfig(mode=AuditMode.product))


def test_what_contradicts_the_paper() -> None:
    assert contradictions(Choice(CriterionConfig(), SelectionConfig(), 3, GroundingConfig())) == []
    assert contradictions(BASE) == ["heads.k=2 (paper: three heads)"]
    (level,) = contradictions(Choice(CriterionConfig(), SelectionConfig(), 3, GroundingConfig(level=1.5)))
    assert level == "grounding.level=1.5 (paper: above the mean itself)"
    # Undocumented choices contradict nothing.
    free = GroundingConfig(resolution=Resolution.image, clamp=False, box=BoxRule.component)
    assert contradictions(Choice(CriterionConfig(elbow="kneed"), SelectionConfig(), 3, free)) == []


def test_keys_tell_apart_what_differs_and_nothing_else() -> None:
    other = BASE.changed(Change("criterion.floor", {"floor": "relu_mean_eps"}))
    assert criterion_key(other) != criterion_key(BASE) == criterion_key(BASE.changed(SIGMA[0]))
    assert head_key(BASE.changed(K[0])) != head_key(BASE)
    assert json.loads(BASE.key) and BASE.changed(SIGMA[1]).key == BASE.key


def test_the_image_file_is_never_opened(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was opened"))
    group, attention = scene(0, tmp_path)
    measure([group], lambda _: [attention], AuditPlan((BASE,), {head_key(BASE): HEADS}, {}, {}))
