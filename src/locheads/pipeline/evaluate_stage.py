"""stage=evaluate: the files of predictions against the truth."""

import pandas as pd

from locheads.evaluation.best_heads import figure6
from locheads.evaluation.truth import Truth
from locheads.pipeline.answer_files import OTHERS, OWN, scored
from locheads.pipeline.run_files import metrics_record, write_parquet
from locheads.pipeline.run_state import Run
from locheads.pipeline.write_explorer import ExplorerHeads, write_explorer
from locheads.pipeline.write_gallery import evenly_spaced, gallery_samples, write_gallery
from locheads.store.atomic import write_json


def evaluate_stage(run: Run) -> None:
    """Scores against the truth -> scores.parquet, metrics.json and the samples that the report shows."""
    assert run.plan is not None
    truth, groups = Truth(run.inputs.evaluated), run.inputs.evaluated
    own, others = (scored(run.folder / name, truth, run.map_scores[name]) for name in (OWN, OTHERS))
    scores = pd.concat([own, others], ignore_index=True)
    write_parquet(run.folder / "scores.parquet", scores)
    metrics = metrics_record(
        scores,
        run.config,
        heads=[str(head) for head in run.plan.fixed],
        best_iou_heads=[str(head) for head in run.plan.best_iou],
        best_rec_heads=[str(head) for head in run.plan.best_rec],
        figure6=None if run.discovery is None or run.head_iou is None else figure6(run.discovery, run.head_iou),
    )
    write_json(run.folder / "metrics.json", metrics)
    rows = _shown(run, own)
    write_gallery(run.folder, groups, run.store, run.plan, rows, run.config)
    heads = ExplorerHeads(run.identity.layers, run.identity.heads, run.plan, run.discovery, run.head_entropy)
    write_explorer(run.folder, groups, run.store, heads, rows, run.config)


def _shown(run: Run, own: pd.DataFrame) -> pd.DataFrame:
    """Answers and scores of the samples that the page and the explorer show."""
    groups, config = run.inputs.evaluated, run.config
    shown = [*gallery_samples(groups, config.evaluation), *evenly_spaced(groups, config.explorer.samples)]
    wanted = {sample_id for _, sample_id in shown}
    rows = pd.read_parquet(run.folder / OWN, filters=[("sample_id", "in", wanted)])
    scores = own.set_index("sample_id")
    return rows.join(scores[[*scores.columns.difference(rows.columns)]], on="sample_id")
