"""stage=evaluate: the files of predictions against the truth."""

from typing import Any

import pandas as pd

from locheads.evaluation.best_heads import figure6
from locheads.evaluation.methods import HeadPlan
from locheads.evaluation.second_look import Views
from locheads.grounding.config import Contrast
from locheads.grounding.contrast import uncontrasted
from locheads.pipeline.abstain import Abstention, judged
from locheads.pipeline.discover_stage import DiscoverResult
from locheads.pipeline.run_files import FIRST, OTHERS, OWN, metrics_record, write_parquet
from locheads.pipeline.second_look_stage import zoom_record
from locheads.pipeline.setup import Failures, Setup
from locheads.pipeline.write_explorer import ExplorerHeads, write_explorer
from locheads.pipeline.write_gallery import evenly_spaced, gallery_samples, write_gallery
from locheads.records.follows import FollowsRecord
from locheads.store.attention_store import count


def evaluate_stage(
    setup: Setup,
    discovered: DiscoverResult | None,
    plan: HeadPlan,
    failures: Failures,
    scored: dict[str, pd.DataFrame],
    follows: FollowsRecord | None,
    views: Views | None = None,
    abstention: Abstention | None = None,
) -> None:
    """What `ground_stage` scored -> scores.parquet, metrics.json and the samples that the report shows."""
    folder, config, groups = setup.folder, setup.config, setup.inputs.evaluated
    own, more = scored[OWN], dict[str, Any]()
    if abstention is not None:
        own, more["absence"] = judged(own, groups, abstention, config.evaluation)
    others = [scored[name] for name in (FIRST, OTHERS) if name in scored]
    scores = pd.concat([own, *others], ignore_index=True)
    write_parquet(folder / "scores.parquet", scores)
    metrics_record(
        scores,
        config,
        heads=[str(head) for head in plan.fixed],
        best_iou_heads=[str(head) for head in plan.best_iou],
        best_rec_heads=[str(head) for head in plan.best_rec],
        follows=follows,
        figure6=_figure6(discovered),
        notes=_contrast_notes(setup, failures),
        **more,
    ).write(folder)
    if views is not None:
        zoom_record(views, scores, failures, config).write(folder)
    rows = _shown(setup, scored[OWN], views)
    write_gallery(folder, groups, setup.store, plan, rows, config)
    discovery, entropy = (discovered.discovery, discovered.head_entropy) if discovered else (None, None)
    heads = ExplorerHeads(setup.identity.layers, setup.identity.heads, plan, discovery, entropy)
    write_explorer(folder, groups, setup.store, heads, rows, config)


def _figure6(found: DiscoverResult | None) -> dict[str, Any] | None:
    """None where the heads were given, or their discovery samples have no masks."""
    return None if found is None or found.head_iou is None else figure6(found.discovery, found.head_iou)


def _contrast_notes(setup: Setup, failures: Failures) -> list[str]:
    how, groups = setup.config.grounding.contrast, setup.inputs.evaluated
    if how == Contrast.none:
        return []
    n_kept = len(uncontrasted(groups, how, failures))
    return [f"grounding.contrast={how}: {n_kept:,} of {count(groups):,} expressions have nothing to contrast with."]


def _shown(setup: Setup, own: pd.DataFrame, views: Views | None) -> pd.DataFrame:
    """Answers and scores of the samples that the page and the explorer show; with `views` what was looked at again."""
    groups, config = setup.inputs.evaluated, setup.config
    shown = [*gallery_samples(groups, config.evaluation), *evenly_spaced(groups, config.explorer.samples)]
    sample_ids = {sample_id for _, sample_id in shown}
    rows = pd.read_parquet(setup.folder / OWN, filters=[("sample_id", "in", sample_ids)])
    if views is not None:
        rows["views"] = rows["sample_id"].map(views.get)
    scores = own.set_index("sample_id")
    return rows.join(scores[[*scores.columns.difference(rows.columns)]], on="sample_id")
