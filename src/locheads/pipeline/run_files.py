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
from locheads.records.heads_file import FoundOn, HeadsFile
from locheads.records.metrics_file import MetricsRecord
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
    return HeadsFile.of(
        discovery,
        top_heads(discovery, config.heads.k),
        inputs.trials,
        config.model,
        config.prompt,
        config.criterion,
        selection=config.selection.kind.value,
        n_failed=n_failed,
        n_excluded_images=inputs.n_excluded_images,
        head_iou=iou,
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
