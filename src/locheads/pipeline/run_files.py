"""What the stages write into the run folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from locheads.config import Config
from locheads.discovery.frequencies import top_heads
from locheads.discovery.headset import SCHEMA
from locheads.evaluation.methods import LOCALIZATION_HEADS
from locheads.evaluation.summarise import summarise, summarise_slices
from locheads.pipeline.inputs import Inputs
from locheads.store.atomic import replacing
from locheads.types import Discovery


def heads_record(
    discovery: Discovery, iou: np.ndarray, inputs: Inputs, config: Config, n_failed: int
) -> dict[str, Any]:
    """heads.json: the HeadSet with everything it was chosen from."""
    layers, heads_per_layer = discovery.frequency_mean.shape
    return {
        "schema": SCHEMA,
        "heads": [
            {
                "layer": head.layer,
                "head": head.head,
                "frequency_mean": float(discovery.frequency_mean[head.layer, head.head]),
                "frequency_std": float(discovery.frequency_std[head.layer, head.head]),
            }
            for head in top_heads(discovery, config.heads.k)
        ],
        "k": config.heads.k,
        "selection": config.selection.kind.value,
        "criterion": {key: getattr(value, "value", value) for key, value in vars(config.criterion).items()},
        "tau": discovery.tau,
        "tau_per_trial": list(discovery.tau_per_trial),
        "top_per_trial": [[str(head) for head in top[: config.heads.k]] for top in discovery.ranking_per_trial()],
        "n_samples": len(inputs.trials[0]),
        "trials": len(inputs.trials),
        "n_failed": n_failed,
        "n_excluded_images": inputs.n_excluded_images,
        "layers": layers,
        "heads_per_layer": heads_per_layer,
        "mean_attention_sum": discovery.mean_sums.tolist(),
        "frequency_mean": discovery.frequency_mean.tolist(),
        "frequency_std": discovery.frequency_std.tolist(),
        "eligible": discovery.eligible.tolist(),
        "head_iou": iou.tolist(),
        "model": {
            "id": config.model.id,
            "revision": config.model.revision,
            "preprocess": config.model.preprocess.value,
            "tiles": config.model.tiles,
        },
        "prompt": config.prompt.template,
        "prompt_settings": {key: getattr(value, "value", value) for key, value in vars(config.prompt).items()},
        "dataset": {"name": config.dataset.name, "split": config.dataset.discovery_split},
        "seed": config.seed,
    }


def metrics_record(
    scores: pd.DataFrame, config: Config, method: str = LOCALIZATION_HEADS, **more: Any
) -> dict[str, Any]:
    """metrics.json, from rows of `Truth.score`. `method` is the one that is counted and also told by slices; `more`
    holds what only some runs have."""
    own = scores[scores["method"] == method]
    return {
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


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Raises StoreError where it cannot be written."""
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False)
