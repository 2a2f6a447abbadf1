"""stage=discover: from the stored attention of the discovery samples to the localization heads."""

from locheads.discovery.frequencies import discover, stability
from locheads.discovery.scores import mean_entropy, score_all
from locheads.errors import DiscoveryError
from locheads.evaluation.head_iou import head_iou
from locheads.pipeline.progress import track
from locheads.pipeline.run_files import heads_record
from locheads.pipeline.run_state import Run
from locheads.store.atomic import write_json


def discover_stage(run: Run) -> None:
    """Scores, frequencies and the k heads -> heads.json."""
    find_heads(run)
    assert run.discovery is not None and run.head_iou is not None
    n_failed = len(run.failed(run.inputs.discovery))
    record = heads_record(run.discovery, run.head_iou, run.inputs, run.config, n_failed)
    made_from = {"weights": run.identity.weights, "annotations": run.inputs.annotations}
    write_json(run.folder / "heads.json", record | {"made_from": made_from, "digest": run.digest})
    if run.stability:
        write_json(run.folder / "stability.json", {"k": run.config.heads.k, "sizes": run.stability})


def find_heads(run: Run) -> None:
    """Fills run.discovery and run.head_iou, unless they are there."""
    if run.discovery is not None:
        return
    groups, failed = run.inputs.discovery, run.failed(run.inputs.discovery)
    if len(failed) == sum(len(group.samples) for group in groups):
        reason = run.failures[failed[0]]
        raise DiscoveryError(f"Every one of the {len(failed)} discovery samples failed, the first because: {reason}")
    stored = run.store.read(track(groups, "discover", "images"), run.scored_by())
    scores = score_all(stored, run.config.criterion)
    trials = run.positions(scores)
    run.discovery = discover(scores, trials, run.config.criterion)
    config = run.config
    run.stability = stability(scores, trials, config.criterion, config.discovery.sizes, config.heads.k, config.seed)
    run.head_entropy = mean_entropy(scores)
    run.head_iou = head_iou(run.store.read(track(groups, "head IoU", "images")), groups)
