"""The stages in their order: attend, discover, ground, evaluate, report. Configuration in, files out."""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from locheads.config import Config, Stage, check
from locheads.discovery.choices import SelectionKind
from locheads.discovery.discover import discover, greedy_heads, top_heads
from locheads.discovery.scores import mean_entropy, score_all
from locheads.discovery.stability import stability
from locheads.engine import ALL_MAPS, Quantization, top_heads_kept
from locheads.errors import ConfigError, DiscoveryError
from locheads.evaluation.evaluate import score_predictions, summarise, summarise_slices
from locheads.evaluation.head_iou import best_heads_by_iou, figure6, head_iou
from locheads.evaluation.map_metrics import MAP_METRICS
from locheads.evaluation.methods import LOCALIZATION_HEADS, HeadPlan, random_heads
from locheads.evaluation.predict import predict
from locheads.evaluation.segmented import segment_rows
from locheads.grounding.choices import Sinks
from locheads.grounding.sinks import SinkCells, find_sinks
from locheads.models.load import ModelIdentity, identify
from locheads.models.placement import check_placement
from locheads.pipeline.alone import alone
from locheads.pipeline.attention import Loader, fill, open_store
from locheads.pipeline.audit import audit_stage, choices_of
from locheads.pipeline.compact import Picks
from locheads.pipeline.direct import direct_stage
from locheads.pipeline.explorer import Kept, write_explorer
from locheads.pipeline.gallery import write_gallery
from locheads.pipeline.given import given_heads, given_record, maps_heads
from locheads.pipeline.inputs import Inputs, load_inputs, samples_record
from locheads.pipeline.progress import track
from locheads.pipeline.receipt import find_done, receipt_key, take_over, write_receipt
from locheads.pipeline.records import Status, heads_record, metrics_record, recorded_provenance, write_parquet
from locheads.pipeline.shards import Dealer, Pass, token_cost
from locheads.pipeline.status import show_status
from locheads.pipeline.timing import write_timing
from locheads.report.html import write_report
from locheads.segmenters.load import check_segmenter, load_segmenter, segmenter_identity
from locheads.store.atomic import write_json
from locheads.store.attention import AttentionStore
from locheads.store.digest import json_digest
from locheads.store.need import EVERYTHING, Need
from locheads.types import Discovery, HeadIndex, HeadScores, HeadSet, ImageGroup

log = logging.getLogger(__name__)

WITHOUT_EFFECT = (
    "audit", "engine", "explorer", "shard", "tracker", "paths", "study", "stage", "predictions", "predictions_format",
    "runs", "fresh",
)  # fmt: skip
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
    given: HeadSet | None = None
    """The heads of heads.set; None where discovery finds them."""
    loader: Loader | None = None
    failures: dict[str, str] = field(default_factory=dict)
    """Sample id -> why it has no attention."""
    discovery: Discovery | None = None
    stability: list[dict[str, Any]] = field(default_factory=list)
    """Per size of discovery.sizes each trial's heads."""
    head_iou: np.ndarray | None = None
    """[layer, head], on the discovery samples."""
    head_entropy: np.ndarray | None = None
    """[layer, head], mean over the discovery samples with any component."""
    plan: HeadPlan | None = None
    predictions: pd.DataFrame | None = None

    def positions(self, scores: HeadScores) -> list[np.ndarray]:
        """Per trial where its samples are in `scores`; failed samples are not there (and are counted)."""
        where = {sample_id: i for i, sample_id in enumerate(scores.sample_ids)}
        return [np.array([where[i] for i in trial if i in where], dtype=int) for trial in self.inputs.trials]


def execute(
    config: Config, folder: Path, earlier: Path | None = None, started: Callable[[str], None] = lambda _: None
) -> None:
    """Runs all stages up to `config.stage` and writes their files into `folder`.

    Args:
        config: of the run.
        folder: the run folder.
        earlier: a study's folder, of which a run that has done the same is taken over; None: run whatever is there.
        started: called with what identifies the run, before the first stage or after the taking over.

    Raises:
        LocHeadsError: whatever a user can mend, as one sentence; what was finished stays in the folder.
    """
    if (action := alone(config)) is not None:
        return action(config, folder)
    status = Status(folder)
    try:
        check(config)
        with recorded_provenance(folder) as record:
            run = prepare(config, folder, record)
            key = receipt_key(config, run.digest, run.inputs)
            # The result of the attention pass is the store, which a receipt does not vouch for.
            again = earlier is None or config.stage in (Stage.attend, Stage.status)
            done = None if again or earlier is None else find_done(earlier, key)
            if done is None:
                started(json_digest(key))
                _run_stages(run, status)
        if done is not None:
            take_over(done, folder)
            return started(json_digest(key))
        # Before the page, which tells how the run ended and how long it took.
        status.finish()
        if config.stage in (Stage.report, Stage.audit):
            with status.stage(Stage.report.value):
                write_report(folder)
        write_receipt(folder, key, len(run.failures))
    except BaseException as error:
        status.finish(str(error) or type(error).__name__)
        raise


def _run_stages(run: Run, status: Status) -> None:
    for stage, action in _actions(run.config).items():
        with status.stage(stage.value):
            action(run)
    if run.config.stage is not Stage.direct:  # which writes its own
        write_timing(run.folder, run.store.folder)


def prepare(config: Config, folder: Path, record: dict[str, Any]) -> Run:
    """Checks everything that can be checked without loading weights, and opens the store."""
    check_placement(config.model, config.engine)
    check_segmenter(config.segmenter)
    if config.stage is Stage.audit:
        choices_of(config)
    identity = identify(config.model, Path(config.paths.cache))
    _check_head_count(config, identity)
    maps_heads(config, identity)
    given = given_heads(config, identity)
    inputs = load_inputs(config)
    _check_shown(config, inputs)
    digest = run_digest(config, identity, inputs, given)
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
    if given is not None:
        record["heads"] = given_record(given, config.heads.k)
    write_json(folder / "samples.json", samples_record(inputs, config))
    # One of many workers must not read the whole store; whoever reads the maps later verifies them.
    store = open_store(config, identity, inputs.annotations, verify=config.shard.count == 1)
    return Run(config, folder, inputs, identity, store, digest, given)


def run_digest(config: Config, identity: ModelIdentity, inputs: Inputs, given: HeadSet | None = None) -> str:
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
    # Which heads they are counts, not where their file lies.
    settings["heads"]["set"] = None if given is None else [str(head) for head in given.heads]
    settings["segmenter"] = segmenter_identity(config.segmenter, Path(config.paths.cache))
    return json_digest([settings, identity.weights, inputs.annotations, inputs.trials])


def attend_stage(run: Run) -> None:
    """Fills the store for discovery and evaluation. Loads the LVLM only if something is not there.

    With shard.count > 1 only this worker's shards.
    """
    run.loader = run.loader or Loader(run.config)
    first, *later = passes(run)
    complete = _deal(run, first)
    for work in later:
        if work.need is not None or complete:
            _deal(run, work)
        else:
            log.info("The heads to keep are found once all shards of discovery are done: then start this once more.")


def passes(run: Run) -> list[Pass]:
    """What the model is asked: everything at once, or, where few maps are kept, discovery's samples first."""
    inputs = run.inputs
    if run.config.engine.maps == ALL_MAPS:
        return [Pass("all", [*inputs.discovery, *inputs.evaluated], EVERYTHING)]
    known = maps_heads(run.config, run.identity)
    evaluated = Pass("evaluated", inputs.evaluated, None if known is None else Need(known))
    if run.given is not None:
        return [evaluated]
    return [Pass("discovery", inputs.discovery, Need(frozenset(), scored_by=_scored_by(run), cells=True)), evaluated]


def dealer(run: Run) -> Dealer:
    """Of this run's passes."""
    return Dealer(run.store, run.config.shard, token_cost(run.config, run.identity))


def _deal(run: Run, work: Pass) -> bool:
    """Fills the store for the pass, or for this worker's shards of it. -> whether the pass is complete."""
    if run.config.shard.count > 1:
        return dealer(run).work(work, lambda part: _fill_part(run, work, part))
    _fill_part(run, work, work.groups)
    return True


def _fill_part(run: Run, work: Pass, part: list[ImageGroup]) -> int:
    """-> how many of the part's samples failed."""
    if work.need is not None:
        _fill(run, part, work.need)
    else:
        if run.given is None:
            _find_heads(run)
        of_part = replace(run, inputs=replace(run.inputs, evaluated=part))
        _fill_compactly(of_part, top_heads_kept(run.config.engine.maps))
    return sum(sample.sample_id in run.failures for group in part for sample in group.samples)


def discover_stage(run: Run) -> None:
    """Scores, frequencies and the k heads -> heads.json."""
    _find_heads(run)
    assert run.discovery is not None and run.head_iou is not None
    n_failed = len(_failed_in_discovery(run))
    record = heads_record(run.discovery, run.head_iou, run.inputs, run.config, n_failed)
    made_from = {"weights": run.identity.weights, "annotations": run.inputs.annotations}
    write_json(run.folder / "heads.json", record | {"made_from": made_from, "digest": run.digest})
    if run.stability:
        write_json(run.folder / "stability.json", {"k": run.config.heads.k, "sizes": run.stability})


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
    trials = run.positions(scores)
    run.discovery = discover(scores, trials, run.config.criterion)
    run.stability = stability(scores, trials, run.config)
    run.head_entropy = mean_entropy(scores)
    run.head_iou = head_iou(run.store.read(track(groups, "head IoU", "pictures")), groups)


def _failed_in_discovery(run: Run) -> list[str]:
    return [s.sample_id for group in run.inputs.discovery for s in group.samples if s.sample_id in run.failures]


def _fill(run: Run, groups: list[ImageGroup], need: Need = EVERYTHING, picks: Picks | None = None) -> None:
    run.loader = run.loader or Loader(run.config)
    failures = fill(run.store, groups, run.config, need, picks, run.loader)
    run.failures |= {failure.sample_id: failure.reason for failure in failures}


def _scored_by(run: Run) -> tuple[str, str]:
    return run.config.criterion.floor.value, run.config.criterion.weighting.value


def _fill_compactly(run: Run, top: int = 0) -> None:
    """Stores what grounding reads of the evaluated split, and the maps of the `top` most frequent heads."""
    config, groups = run.config, run.inputs.evaluated
    picks = None
    if config.selection.kind is SelectionKind.greedy:
        discovery = run.discovery
        assert discovery is not None

        def picks(scores: HeadScores) -> set[HeadIndex]:
            found = greedy_heads(scores, discovery, config.heads.k, config.criterion)
            return {head for heads in found.values() for head in heads}

        _fill(run, groups, _compact_need(run, _plan(run, None), top), picks)
    plan = plan_heads(run)
    _fill(run, groups, _compact_need(run, plan, top), picks)


def _compact_need(run: Run, plan: HeadPlan, top: int) -> Need:
    heads = {*plan.fixed, *plan.oracle, *(head for draw in plan.random for head in draw)}
    if run.discovery is not None:
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
    answers = run.predictions.drop(columns=list(MAP_METRICS))  # scores.parquet has what needs the truth
    write_parquet(run.folder / "predictions.parquet", answers[own])
    write_parquet(run.folder / "baselines.parquet", answers[~own])


def evaluate_stage(run: Run) -> None:
    """Scores against the truth -> scores.parquet, metrics.json and the samples that the report shows."""
    assert run.predictions is not None and run.plan is not None
    scores = score_predictions(run.predictions, run.inputs.evaluated)
    write_parquet(run.folder / "scores.parquet", scores)
    metrics = metrics_record(
        scores,
        summarise(scores, run.config.evaluation, run.config.seed),
        summarise_slices(scores, LOCALIZATION_HEADS, run.config.evaluation, run.config.seed),
        run.config,
        heads=[str(head) for head in run.plan.fixed],
        oracle_heads=[str(head) for head in run.plan.oracle],
        figure6=None if run.discovery is None or run.head_iou is None else figure6(run.discovery, run.head_iou),
    )
    write_json(run.folder / "metrics.json", metrics)
    own = run.predictions["method"] == LOCALIZATION_HEADS
    rows = run.predictions[own].join(scores[[*scores.columns.difference(run.predictions.columns)]])
    write_gallery(run.folder, run.inputs.evaluated, run.store, run.plan, rows, run.config)
    kept = Kept(run.identity.layers, run.identity.heads, run.plan, run.discovery, run.head_entropy)
    write_explorer(run.folder, run.inputs.evaluated, run.store, kept, rows, run.config)


def status_stage(run: Run) -> None:
    """How far the shards of the attention pass are -> a table, and workers.json."""
    show_status(dealer(run), passes(run), run.folder)


# The page is made from the records alone, after the run.
STAGES = {
    Stage.attend: attend_stage,
    Stage.discover: discover_stage,
    Stage.ground: ground_stage,
    Stage.evaluate: evaluate_stage,
    Stage.audit: audit_stage,
}


def _actions(config: Config) -> dict[Stage, Callable[[Run], None]]:
    """What stage=X does, in order; without discovery where the heads are given."""
    alone = {Stage.status: status_stage, Stage.direct: direct_stage}
    if config.stage in alone:
        return {config.stage: alone[config.stage]}
    if config.stage is Stage.audit:
        return {stage: STAGES[stage] for stage in (Stage.attend, Stage.discover, Stage.audit)}
    order = [stage for stage in STAGES if stage is not Stage.audit]
    stages = order[: list(Stage).index(config.stage) + 1]
    given = config.heads.set is not None
    return {stage: STAGES[stage] for stage in stages if not (given and stage is Stage.discover)}


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
    config, k = run.config, run.config.heads.k
    draws, seed = config.evaluation.random_draws, config.seed
    if run.given is not None:
        admitted = np.zeros((run.identity.layers, run.identity.heads), dtype=bool)
        admitted[config.criterion.skip_layers :] = True
        return HeadPlan(run.given.heads[:k], None, oracle=(), random=random_heads(admitted, k, draws, seed))
    assert run.discovery is not None and run.head_iou is not None
    return HeadPlan(
        fixed=tuple(top_heads(run.discovery, k)),
        greedy=greedy,
        oracle=tuple(best_heads_by_iou(run.head_iou, k)),
        random=random_heads(run.discovery.eligible, k, draws, seed),
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
