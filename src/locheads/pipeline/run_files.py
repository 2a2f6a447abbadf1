"""What the stages write into the run folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from locheads.config import Config
from locheads.discovery.frequencies import top_heads
from locheads.evaluation.metric_table import LOCALIZATION_HEADS
from locheads.evaluation.summarise import summarise, summarise_slices
from locheads.pipeline.inputs import Inputs
from locheads.records.heads_file import SCHEMA, AskedModel, FoundHead, FoundOn, HeadsFile
from locheads.records.metrics_file import MetricsRecord
from locheads.records.record_base import plain
from locheads.store.atomic import replacing
from locheads.types import Discovery


def heads_file(
    discovery: Discovery,
    iou: np.ndarray,
    inputs: Inputs,
    config: Config,
    n_failed: int,
    made_from: dict[str, str],
    digest: str,
) -> HeadsFile:
    """The head set with everything it was chosen from."""
    layers, heads_per_layer = discovery.frequency_mean.shape
    model = config.model
    return HeadsFile(
        version=SCHEMA,
        found=tuple(
            FoundHead(
                layer=head.layer,
                head=head.head,
                frequency_mean=discovery.frequency_mean[head.layer, head.head],
                frequency_std=discovery.frequency_std[head.layer, head.head],
            )
            for head in top_heads(discovery, config.heads.k)
        ),
        k=config.heads.k,
        selection=config.selection.kind.value,
        criterion=plain(config.criterion),
        tau=discovery.tau,
        tau_per_trial=discovery.tau_per_trial,
        top_per_trial=tuple(tuple(map(str, top[: config.heads.k])) for top in discovery.ranking_per_trial()),
        n_samples=len(inputs.trials[0]),
        trials=len(inputs.trials),
        n_failed=n_failed,
        n_excluded_images=inputs.n_excluded_images,
        layers=layers,
        heads_per_layer=heads_per_layer,
        mean_attention_sum=discovery.mean_sums,
        frequency_mean=discovery.frequency_mean,
        frequency_std=discovery.frequency_std,
        eligible=discovery.eligible,
        head_iou=iou,
        model=AskedModel(id=model.id, revision=model.revision, preprocess=model.preprocess, tiles=model.tiles),
        prompt=config.prompt.template,
        prompt_settings=plain(config.prompt),
        dataset=FoundOn(name=config.dataset.name, split=config.dataset.discovery_split),
        seed=config.seed,
        made_from=made_from,
        digest=digest,
    )


def metrics_record(
    scores: pd.DataFrame, config: Config, method: str = LOCALIZATION_HEADS, **more: Any
) -> MetricsRecord:
    """metrics.json, from rows of `Truth.score`. `method` is the one that is counted and also given by slices; `more`
    holds what only some runs have."""
    own = scores[scores["method"] == method]
    return MetricsRecord.parse(
        {
            "split": config.dataset.split,
            "n_expressions": len(own),
            "n_images": int(own["image_id"].nunique()),
            "n_failed": int(own["error"].notna().sum()),
            "n_empty": int((own["error"].isna() & ~own["answered"]).sum()),
            "confidence": config.evaluation.confidence,
            "methods": summarise(scores, config.evaluation),
            "slices": summarise_slices(scores, method, config.evaluation),
            **more,
        }
    )


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Raises StoreError where it cannot be written."""
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False)
