"""The answer "none": scores of absence from the stored maps, the threshold from images of the discovery split."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from locheads.absence.absence_figures import aurc_parts, auroc, auroc_parts, risk_coverage
from locheads.absence.absence_scores import other_refs, own_scores, shared
from locheads.absence.config import AbsenceScore
from locheads.absence.threshold import threshold_of
from locheads.data.image_groups import merged
from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.intervals import ratio_interval
from locheads.evaluation.methods import HeadPlan, heads_maps
from locheads.evaluation.rows import Row, mask_counts
from locheads.grounding.config import GroundingConfig
from locheads.grounding.contrast import probes_of
from locheads.grounding.ground_maps import ground_stack
from locheads.pipeline.setup import Setup
from locheads.records.absence_part import CalibrationPart
from locheads.records.metrics_file import AbsencePart, Estimate
from locheads.store.attention_store import AttentionStore
from locheads.terminal import track
from locheads.types import ImageGroup

log = logging.getLogger(__name__)

SCORE = "absence"
"""Column of the score that decides; those of all scores have its name behind it: `column`."""
WITHOUT_NONE = "box_iou_without_none"
"""Column of scores.parquet: the box IoU that there is where the run always answers."""
CURVE = 100
"""Points of the risk-coverage curve that metrics.json holds, from 1 % coverage on."""

Scores = Mapping[AbsenceScore, float]


@dataclass(frozen=True)
class Abstention:
    """When the run says "none"."""

    score: AbsenceScore
    threshold: float
    """From here on."""
    probes: bool
    """Whether the scores that need the probes are worked out, too."""
    calibration: CalibrationPart | None = None
    """None where the threshold was given."""


def column(score: AbsenceScore) -> str:
    return f"{SCORE}_{score.value}"


def abstention(setup: Setup, plan: HeadPlan) -> Abstention | None:
    """Calibrated where no threshold is given; None where the run always answers."""
    config = setup.config.absence
    if not config.on:
        return None
    if config.threshold is not None:
        return Abstention(config.score, config.threshold, config.needs_probes)
    groups = setup.inputs.calibration
    found = [
        scores_of(setup.store, group, plan, setup.config.grounding, config.needs_probes)
        for group in track(groups, "calibrate", "images")
    ]
    samples = [(sample.absent, scores.get(sample.sample_id)) for group, scores in zip(groups, found, strict=True)
               for sample in group.samples]  # fmt: skip
    return _calibrated(setup, samples)


def _calibrated(setup: Setup, samples: Sequence[tuple[bool, Scores | None]]) -> Abstention:
    config = setup.config.absence
    scored = [(absent, scores) for absent, scores in samples if scores is not None]
    absent = np.array([each for each, _ in scored], dtype=bool)
    if not 0 < absent.sum() < len(absent):
        raise config.lacks_kinds(setup.config.dataset.discovery_split)
    table = {name: np.array([scores[name] for _, scores in scored]) for name in scored[0][1]}
    areas = {name: auroc(values, absent) for name, values in table.items()}
    score = max(areas, key=lambda name: areas[name]) if config.score == AbsenceScore.calibrated else config.score
    threshold = threshold_of(table[score], absent, config)
    none = table[score] >= threshold
    part = CalibrationPart(
        split=setup.config.dataset.discovery_split,
        rule=config.rule.value,
        n_images=len(setup.inputs.calibration),
        n_targeted=int((~absent).sum()),
        n_absent=int(absent.sum()),
        n_failed=len(samples) - len(scored),
        n_acc=float(none[absent].mean()),
        t_acc=float((~none[~absent]).mean()),
        auroc={name.value: area for name, area in areas.items()},
    )
    return Abstention(score, threshold, config.needs_probes, part)


def scores_of(
    store: AttentionStore, group: ImageGroup, plan: HeadPlan, grounding: GroundingConfig, probes: bool
) -> dict[str, Scores]:
    """Sample id -> its scores, of the samples with finite maps of the chosen heads. The maps are taken as they were
    stored, less sinks, normalised and smoothed as the run does, without contrast."""
    asked = merged([group, probes_of(group)]) if probes else [group]
    places = [(a, row) for a in store.read(asked, heads=set(plan.fixed)) for row in range(len(a.sample_ids))]
    if not places:
        return {}
    geometry = places[0][0].geometry
    maps, sinks, errors = heads_maps([(*at, plan.fixed) for at in places], (geometry.rows, geometry.cols), plan.sinks)
    stack = ground_stack(maps, (geometry,) * len(places), grounding, sinks)
    ids = [attention.sample_ids[row] for attention, row in places]
    ref_ids = {sample.sample_id: sample.ref_id for sample in group.samples}
    usable = np.array([error is None for error in errors])
    own = np.array([i for i, sample_id in enumerate(ids) if sample_id in ref_ids and usable[i]], dtype=int)
    smoothed = maps if stack.smoothed is None else stack.smoothed
    found = own_scores(maps[own], smoothed[own], stack.fused[own])
    fused = stack.fused[own]
    found[AbsenceScore.others] = shared(fused, fused, other_refs([ref_ids[ids[i]] for i in own]))
    if probes:
        asked_besides = np.array([sample_id not in ref_ids for sample_id in ids]) & usable
        references = stack.fused[asked_besides]
        found[AbsenceScore.probes] = shared(fused, references, np.ones((len(own), len(references)), dtype=bool))
    return {ids[i]: {name: float(values[n]) for name, values in found.items()} for n, i in enumerate(own)}


def with_scores(rows: Sequence[Row], scores: Mapping[str, Scores], score: AbsenceScore) -> list[Row]:
    """Rows of any methods with their sample's scores; those of a sample without any hold none."""
    return [row | _columns(scores.get(row["sample_id"], {}), score) for row in rows]


def _columns(scores: Scores, score: AbsenceScore) -> dict[str, float | None]:
    return {SCORE: scores.get(score)} | {column(name): value for name, value in scores.items()}


def abstaining(rows: Sequence[Row], threshold: float) -> list[Row]:
    """The rows, without box and with an empty mask where the score says "none". The peak, which is the map's, stays; a
    failed answer is none of either kind."""
    return [_none(row) if row["error"] is None and row[SCORE] is not None and row[SCORE] >= threshold else row
            for row in rows]  # fmt: skip


def _none(row: Row) -> Row:
    empty = np.zeros((row["mask_height"], row["mask_width"]), dtype=bool)
    none = dict.fromkeys(("x0", "y0", "x1", "y1")) | {"mask_counts": mask_counts(empty)}
    if "n_answered" in row:  # of several candidates none is the answer
        none |= {"n_answered": 0, "objects_mask": none["mask_counts"]}
    return row | none


def score_columns(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """The scores of absence of some rows; NaN where a row has none."""
    names = dict.fromkeys(name for row in rows for name in row if name == SCORE or name.startswith(f"{SCORE}_"))
    return {name: np.array([row.get(name) for row in rows], dtype=float) for name in names}


def judged(
    scores: pd.DataFrame, groups: Sequence[ImageGroup], abstention: Abstention, config: EvaluationConfig
) -> tuple[pd.DataFrame, AbsencePart]:
    """(the run's own rows of a whole split with the columns of AURC, and of AUROC where some objects are absent and
    some not; what metrics.json says of them). A row without a score is placed wrongly against all others."""
    objects = _objects(scores, groups)
    absent = objects == 0
    both = 0 < absent.sum() < len(absent)
    counted = objects <= 1  # whether a box is right is asked of one object only, as in REC
    found, coverage, risk = _with_risk(scores, objects, counted)
    if both:
        found["auroc_above"], found["auroc_below"] = auroc_parts(_placed(scores[SCORE], absent), absent)
    at = np.unique(np.ceil(np.arange(1, CURVE + 1) / CURVE * len(risk)).astype(int)) - 1
    names = [name for name in map(column, AbsenceScore) if name in scores and both]
    return found, AbsencePart(
        score=abstention.score.value,
        threshold=abstention.threshold,
        calibration=abstention.calibration,
        n_targeted=int((~absent).sum()),
        n_absent=int(absent.sum()),
        n_unscored=int(scores[SCORE].isna().sum()),
        auroc={name.removeprefix(f"{SCORE}_"): _auroc(scores, name, absent, config) for name in names},
        coverage=tuple(coverage[at].tolist()),
        risk=tuple(risk[at].tolist()),
    )


def _with_risk(
    scores: pd.DataFrame, objects: np.ndarray, counted: np.ndarray
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """(the scores with the columns of AURC, coverage, risk), these of the `counted` rows."""
    rows = scores[counted]
    wrong = ((objects[counted] == 0) | ~(rows[WITHOUT_NONE].to_numpy() >= 0.5)).astype(float)
    values = rows[SCORE].fillna(-1).to_numpy()
    found = scores.assign(aurc_above=0.0, aurc_below=counted.astype(float))
    found.loc[counted, "aurc_above"] = aurc_parts(values, wrong)
    return found, *risk_coverage(values, wrong)


def _auroc(scores: pd.DataFrame, name: str, absent: np.ndarray, config: EvaluationConfig) -> Estimate:
    images, _ = pd.factorize(scores["image_id"], sort=True)
    parts = auroc_parts(_placed(scores[name], absent), absent)
    return Estimate(**vars(ratio_interval(*parts, images, confidence=config.confidence)))


def _placed(scores: pd.Series, absent: np.ndarray) -> np.ndarray:
    """Scores lie in [0, 1]; one that is not there lies beyond all others, on the wrong side."""
    return np.where(scores.isna(), np.where(absent, -1.0, 2.0), scores)


def _objects(scores: pd.DataFrame, groups: Sequence[ImageGroup]) -> np.ndarray:
    """How many objects each row's expression names."""
    named = {s.sample_id: len(s.objects) for group in groups for s in group.samples}
    return scores["sample_id"].map(named).to_numpy()
