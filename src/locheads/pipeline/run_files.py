"""What the stages write into the run folder."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from locheads.config import Config
from locheads.discovery.frequencies import top_heads
from locheads.discovery.headset import SCHEMA
from locheads.errors import StoreError
from locheads.evaluation.metric_table import LOCALIZATION_HEADS
from locheads.evaluation.summarise import summarise, summarise_slices
from locheads.pipeline.inputs import Inputs
from locheads.records.metrics_file import metrics_content
from locheads.store.atomic import replacing, write_json
from locheads.store.provenance import provenance
from locheads.store.run_folder import RECEIPT
from locheads.types import Discovery


class Status:
    """status.json: how far a run has come, and why it ended. Watches that the run folder loses no file meanwhile."""

    def __init__(self, folder: Path) -> None:
        # Of an earlier run in this folder, whose files are written anew from now on.
        with suppress(OSError):  # which writing the status tells
            (folder / RECEIPT).unlink()
        self._folder, self._path = folder, folder / "status.json"
        self._seen: set[str] = set()
        self._content: dict[str, Any] = {"state": "running", "stages": {}, "error": None}
        self._write()
        self.check_complete()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Marks a stage as running, then done with its seconds."""
        self._content["stages"][name] = {"state": "running", "seconds": None}
        self._write()
        start = time.perf_counter()
        self.check_complete()
        yield
        self.check_complete()
        self._content["stages"][name] = {"state": "done", "seconds": round(time.perf_counter() - start, 3)}
        self._write()

    def check_complete(self) -> None:
        """Raises StoreError where a file that was there at an earlier call, config.yaml for one, is gone: the folder
        was deleted, moved or tidied while the run went on, and what is written into it later is no whole result."""
        files = (path.relative_to(self._folder) for path in self._folder.rglob("*") if path.is_file())
        there = {str(path) for path in files if not _volatile(path)}
        if gone := sorted(self._seen - there):
            raise StoreError(
                f"{self._folder} lost {len(gone)} files while the run went on, such as {gone[0]}: what is left is not "
                "its whole result. Start the run again, and leave its folder where it is until it ends."
            )
        self._seen |= there

    def finish(self, error: str | None = None) -> None:
        """The run ended: well, or with this error."""
        self._content |= {"state": "failed" if error else "done", "error": error}
        self._write()

    def _write(self) -> None:
        write_json(self._path, self._content)


def _volatile(path: Path) -> bool:
    """Whether a file of a run folder may come and go: temporary names, W&B's own, the log."""
    return path.parts[0] in ("run.log", "wandb") or any(part.startswith(".") for part in path.parts)


@contextmanager
def recorded_provenance(folder: Path) -> Iterator[dict[str, Any]]:
    """provenance.json, written at the start (a run that dies has one, too) and again with the time at the end."""
    record = provenance() | {"started": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": None}
    write_json(folder / "provenance.json", record)
    start = time.perf_counter()
    yield record
    record["seconds"] = round(time.perf_counter() - start, 3)
    write_json(folder / "provenance.json", record)


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
    return metrics_content(
        split=config.dataset.split,
        n_expressions=len(own),
        n_images=int(own["image_id"].nunique()),
        n_failed=int(own["error"].notna().sum()),
        n_empty=int((own["error"].isna() & ~own["answered"]).sum()),
        confidence=config.evaluation.confidence,
        methods=summarise(scores, config.evaluation),
        slices=summarise_slices(scores, method, config.evaluation),
        **more,
    )


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Raises StoreError where it cannot be written."""
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False)
