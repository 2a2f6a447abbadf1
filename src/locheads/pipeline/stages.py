"""The stages in their order: attend, discover, ground, evaluate, report. Configuration in, files out."""

import dataclasses
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from locheads.config import Config, SelectionKind, Stage, check
from locheads.discovery.discover import discover, greedy_heads, top_heads
from locheads.discovery.headset import read_heads
from locheads.discovery.scores import score_all
from locheads.engine import ALL_MAPS, Quantization, top_heads_kept
from locheads.errors import ConfigError, DiscoveryError
from locheads.evaluation.evaluate import score_predictions, summarise
from locheads.evaluation.head_iou import best_heads_by_iou, figure6, head_iou
from locheads.evaluation.methods import LOCALIZATION_HEADS, HeadPlan, random_heads
from locheads.evaluation.predict import predict
from locheads.evaluation.segmented import segment_rows
from locheads.grounding.choices import Sinks
from locheads.grounding.sinks import SinkCells, find_sinks
from locheads.models.load import ModelIdentity, identify
from locheads.models.placement import check_placement
from locheads.pipeline.attention import Loader, fill, open_store
from locheads.pipeline.audit import audit_stage, choices_of
from locheads.pipeline.check import run_check
from locheads.pipeline.compact import Picks
from locheads.pipeline.gallery import write_gallery
from locheads.pipeline.inputs import Inputs, load_inputs, samples_record
from locheads.pipeline.progress import track
from locheads.pipeline.records import Status, heads_record, metrics_record, write_parquet
from locheads.report.html import write_report
from locheads.segmenters.load import check_segmenter, load_segmenter, segmenter_identity
from locheads.store.atomic import write_json
from locheads.store.attention import AttentionStore
from locheads.store.digest import json_digest
from locheads.store.need import EVERYTHING, Need
from locheads.store.provenance import provenance
from locheads.types import Discovery, HeadIndex, HeadScores, ImageGroup

log = logging.getLogger(__name__)

WITHOUT_EFFECT = ("audit", "engine", "tracker", "paths", "study", "stage")
"""Groups of settings that cannot change a result: a run's digest leaves them out."""


@dataclass
class Run:
    """One run: what its stages share, each stage adding what the next ones read."""

    config: Config
    folder: Path
    inputs: Inputs
    identity: ModelIdentity
    store: AttentionStore
    digest: str
    loader: Loader | None = None
    failures: dict[str, str] = field(default_factory=dict)
    """Sample id -> why it has no attention."""
    discovery: Discovery | None = None
    head_iou: np.ndarray | None = None
    """[layer, head], on the discovery samples."""
    plan: HeadPlan | None = None
    predictions: pd.DataFrame | None = None

    def positions(self, scores: HeadScores) -> list[np.ndarray]:
        """Per trial where its samples are in `scores`; failed samples are not there (and are counted)."""
        where = {sample_id: i for i, sample_id in enumerate(scores.sample_ids)}
        return [np.array([where[i] for i in trial if i in where], dtype=int) for trial in self.inputs.trials]


def execute(config: Config, folder: Path) -> None:
    """Runs all stages up to `config.stage` and writes their files into `folder`.

    Raises:
        LocHeadsError: whatever a user can mend, as one sentence; what was finished stays in the folder.
    """
    if config.stage is Stage.check:
        return run_check(config, folder)
    status = Status(folder)
    try:
        check(config)
        with _provenance(folder, config) as record:
            run = prepare(config, folder, record)
            for stage in _stages(config.stage):
                with status.stage(stage.value):
                    STAGES[stage](run)
        # Before the page, which tells how the run ended and how long it took.
        status.finish()
        if config.stage in (Stage.report, Stage.audit):
            with status.stage(Stage.report.value):
                write_report(folder)
    except BaseException as error:
        status.finish(str(error) or type(error).__name__)
        raise


def prepare(config: Config, folder: Path, record: dict[str, Any]) -> Run:
    """Checks everything that can be checked without loading weights, and opens the store."""
    check_placement(config.model, config.engine)
    check_segmenter(config.segmenter)
    if config.stage is Stage.audit:
        choices_of(config)
    identity = identify(config.model, Path(config.paths.cache))
    _check_head_count(config, identity)
    _known_heads(config, identity)
    inputs = load_inputs(config)
    _check_shown(config, inputs)
    digest = run_digest(config, identity, inputs)
    record |= {
        "digest": digest,
        "model": dataclasses.asdict(identity) | {"id": config.model.id, "revision": config.model.revision},
        "dataset": {
            "name": config.dataset.name,
            "annotations_sha256": inputs.annotations,
            "guard": inputs.guard,
            "notes": list(inputs.notes),
        },
        "seeds": {"seed": config.seed, "trials": [[config.seed, i] for i in range(config.discovery.trials)]},
    }
    write_json(folder / "samples.json", samples_record(inputs, config))
    return Run(config, folder, inputs, identity, open_store(config, identity, inputs.annotations), digest)


def run_digest(config: Config, identity: ModelIdentity, inputs: Inputs) -> str:
    """What identifies a result: the settings that can change it, the weights and the annotations."""
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in WITHOUT_EFFECT}
    if config.engine.quantization is not Quantization.none:
        settings["quantization"] = config.engine.quantization.value
    # Where they lie; what they are is in the weights' and annotations' own digests.
    del settings["model"]["id"]
    for key in ("folder", "images", "check_images", "test_splits"):
        del settings["dataset"][key]
    # What the guard leaves of discovery depends on the files beside: the drawn ids tell it.
    del settings["dataset"]["guard"]
    settings["segmenter"] = segmenter_identity(config.segmenter, Path(config.paths.cache))
    return json_digest([settings, identity.weights, inputs.annotations, inputs.trials])


def attend_stage(run: Run) -> None:
    """Fills the store for discovery and evaluation. Loads the LVLM only if something is not there."""
    inputs = run.inputs
    if run.config.engine.maps == ALL_MAPS:
        _fill(run, [*inputs.discovery, *inputs.evaluated])
        return
    _fill(run, inputs.discovery, Need(frozenset(), scored_by=_scored_by(run), cells=True))
    known = _known_heads(run.config, run.identity)
    if known is not None:
        _fill(run, inputs.evaluated, Need(known))
    else:
        _find_heads(run)
        _fill_compactly(run, top_heads_kept(run.config.engine.maps))


def discover_stage(run: Run) -> None:
    """Scores, frequencies and the k heads -> heads.json."""
    _find_heads(run)
    assert run.discovery is not None and run.head_iou is not None
    n_failed = len(_failed_in_discovery(run))
    record = heads_record(run.discovery, run.head_iou, run.inputs, run.config, n_failed)
    made_from = {"weights": run.identity.weights, "annotations": run.inputs.annotations}
    write_json(run.folder / "heads.json", record | {"made_from": made_from, "digest": run.digest})


def _find_heads(run: Run) -> None:
    """Fills run.discovery and run.head_iou, unless they are there."""
    if run.discovery is not None:
        return
    groups, failed = run.inputs.discovery, _failed_in_discovery(run)
    if len(failed) == sum(len(group.samples) for group in groups):
        reason = run.failures[failed[0]]
        raise DiscoveryError(f"Every one of the {len(failed)} discovery samples failed, the first because: {reason}")
    stored = run.store.read(track(groups, "discover", "pictures"), _scored_by(run))
    scores = score_all(stored, run.config.criterion)
    run.discovery = discover(scores, run.positions(scores), run.config.criterion)
    run.head_iou = head_iou(run.store.read(track(groups, "head IoU", "pictures")), groups)


def _failed_in_discovery(run: Run) -> list[str]:
    return [s.sample_id for group in run.inputs.discovery for s in group.samples if s.sample_id in run.failures]


def _fill(run: Run, groups: list[ImageGroup], need: Need = EVERYTHING, picks: Picks | None = None) -> None:
    run.loader = run.loader or Loader(run.config)
    failures = fill(run.store, groups, run.config, need, picks, run.loader)
    run.failures |= {failure.sample_id: failure.reason for failure in failures}


def _scored_by(run: Run) -> tuple[str, str]:
    return run.config.criterion.floor.value, run.config.criterion.weighting.value


def _known_heads(config: Config, identity: ModelIdentity) -> frozenset[HeadIndex] | None:
    """The heads of engine.maps=PATH; None for its other forms. Raises StoreError or ConfigError for a wrong file."""
    if config.engine.maps == ALL_MAPS or top_heads_kept(config.engine.maps):
        return None
    path = Path(config.engine.maps)
    heads = read_heads(path / "heads.json" if path.is_dir() else path)
    for head in heads:
        if head.layer >= identity.layers or head.head >= identity.heads:
            raise ConfigError(
                f"engine.maps={path} names {head}, but the model has {identity.layers} layers of "
                f"{identity.heads} heads: use the heads.json of a run with this model."
            )
    return frozenset(heads)


def _fill_compactly(run: Run, top: int = 0) -> None:
    """Stores what grounding reads of the evaluated split, and the maps of the `top` most frequent heads."""
    assert run.discovery is not None
    discovery, config, groups = run.discovery, run.config, run.inputs.evaluated
    picks = None
    if config.selection.kind is SelectionKind.greedy:

        def picks(scores: HeadScores) -> set[HeadIndex]:
            found = greedy_heads(scores, discovery, config.heads.k, config.criterion)
            return {head for heads in found.values() for head in heads}

        _fill(run, groups, _compact_need(run, _plan(run, None), top), picks)
    plan = plan_heads(run)
    _fill(run, groups, _compact_need(run, plan, top), picks)


def _compact_need(run: Run, plan: HeadPlan, top: int) -> Need:
    assert run.discovery is not None
    heads = {*plan.fixed, *plan.oracle, *(head for draw in plan.random for head in draw)}
    heads |= set(run.discovery.ranking()[:top])
    own = {} if plan.greedy is None else {sample_id: tuple(heads) for sample_id, heads in plan.greedy.items()}
    # Greedy selection ranks the heads of every evaluated sample; "top N" keeps the numbers for later.
    scored_by = _scored_by(run) if top or run.config.selection.kind is SelectionKind.greedy else None
    return Need(frozenset(heads), own, scored_by, mean=True)


def ground_stage(run: Run) -> None:
    """The localization heads and every baseline on the evaluated split -> predictions.parquet, baselines.parquet."""
    if run.config.engine.maps != ALL_MAPS:
        _fill_compactly(run)
    run.plan = plan_heads(run)
    rows: list[dict[str, Any]] = []
    segmenter = load_segmenter(run.config.segmenter, run.config.engine)
    for group in track(run.inputs.evaluated, "ground", "pictures"):
        found = list(predict(group, run.store.read([group]), run.plan, run.config.grounding, run.failures))
        rows += segment_rows(found, group, segmenter, run.config.segmenter.box) if segmenter else found
    run.predictions = pd.DataFrame(rows)
    own = run.predictions["method"] == LOCALIZATION_HEADS
    write_parquet(run.folder / "predictions.parquet", run.predictions[own])
    write_parquet(run.folder / "baselines.parquet", run.predictions[~own])


def evaluate_stage(run: Run) -> None:
    """Scores against the truth -> scores.parquet, metrics.json and the samples that the report shows."""
    assert run.predictions is not None and run.plan is not None
    assert run.discovery is not None and run.head_iou is not None
    scores = score_predictions(run.predictions, run.inputs.evaluated)
    write_parquet(run.folder / "scores.parquet", scores)
    metrics = metrics_record(
        scores,
        summarise(scores, run.config.evaluation, run.config.seed),
        run.config,
        heads=[str(head) for head in run.plan.fixed],
        oracle=[str(head) for head in run.plan.oracle],
        figure6=figure6(run.discovery, run.head_iou),
    )
    write_json(run.folder / "metrics.json", metrics)
    own = run.predictions["method"] == LOCALIZATION_HEADS
    rows = run.predictions[own].join(scores[[*scores.columns.difference(run.predictions.columns)]])
    write_gallery(run.folder, run.inputs.evaluated, run.store, run.plan, rows, run.config)


# The page is made from the records alone, after the run.
STAGES = {
    Stage.attend: attend_stage,
    Stage.discover: discover_stage,
    Stage.ground: ground_stage,
    Stage.evaluate: evaluate_stage,
    Stage.audit: audit_stage,
}


def _stages(last: Stage) -> list[Stage]:
    """Those that lead to the last one."""
    if last is Stage.audit:
        return [Stage.attend, Stage.discover, Stage.audit]
    order: list[Stage] = [stage for stage in STAGES if stage is not Stage.audit]
    return order[: list(Stage).index(last) + 1]


def plan_heads(run: Run) -> HeadPlan:
    """Which heads ground which sample, for the method and its baselines."""
    config = run.config
    if config.selection.kind is not SelectionKind.greedy:
        return _plan(run, None)
    assert run.discovery is not None
    greedy: dict[str, list[HeadIndex]] = {}
    if any(s.sample_id not in run.failures for group in run.inputs.evaluated for s in group.samples):
        scores = score_all(run.store.read(run.inputs.evaluated, _scored_by(run)), config.criterion)
        greedy = greedy_heads(scores, run.discovery, config.heads.k, config.criterion)
    return _plan(run, greedy)


def _plan(run: Run, greedy: dict[str, list[HeadIndex]] | None) -> HeadPlan:
    assert run.discovery is not None and run.head_iou is not None
    config, k = run.config, run.config.heads.k
    return HeadPlan(
        fixed=tuple(top_heads(run.discovery, k)),
        greedy=greedy,
        oracle=tuple(best_heads_by_iou(run.head_iou, k)),
        random=random_heads(run.discovery, k, config.evaluation.random_draws, config.seed),
        sinks=_sinks(run),
    )


def _sinks(run: Run) -> SinkCells | None:
    """From the discovery samples, so that nothing of the evaluated split takes part."""
    grounding = run.config.grounding
    if grounding.sinks is not Sinks.mean_map:
        return None
    return find_sinks(run.store.read(track(run.inputs.discovery, "mean maps", "pictures")), grounding.sink_factor)


def _check_shown(config: Config, inputs: Inputs) -> None:
    there = {sample.sample_id for group in inputs.evaluated for sample in group.samples}
    for sample_id in config.evaluation.show:
        if sample_id not in there:
            raise ConfigError(
                f"evaluation.show names the sample {sample_id}, which {config.dataset.split} does not hold (or "
                "dataset.limit leaves out): samples.json of a run lists the ids."
            )


def _check_head_count(config: Config, identity: ModelIdentity) -> None:
    """What no discovery can yield is refused before the attention pass."""
    skipped = config.criterion.skip_layers
    admitted = max(identity.layers - skipped, 0) * identity.heads
    if config.heads.k > admitted:
        raise ConfigError(
            f"heads.k={config.heads.k} is more than the {admitted} heads that can be chosen: the model has "
            f"{identity.layers} layers of {identity.heads} heads, and criterion.skip_layers={skipped} leaves out the "
            "first layers."
        )


@contextmanager
def _provenance(folder: Path, config: Config) -> Iterator[dict[str, Any]]:
    """provenance.json, written at the start (a run that dies has one, too) and again with the time at the end."""
    record = provenance() | {"started": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": None}
    write_json(folder / "provenance.json", record)
    start = time.perf_counter()
    yield record
    record["seconds"] = round(time.perf_counter() - start, 3)
    write_json(folder / "provenance.json", record)
