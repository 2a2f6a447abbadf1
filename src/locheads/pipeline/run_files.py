"""What the stages write into the run folder.

Files of predictions are written and scored some images at a time: their masks never lie in memory all at once.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from locheads.config import Config
from locheads.evaluation.box_format_check import BoxFormatMonitor
from locheads.evaluation.metric_table import LOCALIZATION_HEADS, OBJECTS
from locheads.evaluation.rows import SCHEMA, Row
from locheads.evaluation.several import objects_notes
from locheads.evaluation.summarise import summarise, summarise_slices
from locheads.evaluation.truth import Truth
from locheads.records.metrics_file import MetricsRecord
from locheads.store.atomic import replacing

log = logging.getLogger(__name__)

OWN, OTHERS, FIRST = "predictions.parquet", "baselines.parquet", "first_look.parquet"

FAILED_NAMED = 20
"""Failed samples that metrics.json names; the files of predictions have all."""
ROWS = 2_000
"""Of a row group, at least; the last may have fewer."""


def table_of(rows: Iterable[Row], with_mask_score: bool = False, more: Iterable[pa.Field] = ()) -> pa.Table:
    """Of a file of predictions. `more`: further columns."""
    score = [pa.field("mask_score", pa.float64())] if with_mask_score else []
    return pa.Table.from_pylist(list(rows), pa.schema([*SCHEMA, *score, *more]))


@contextmanager
def writing(
    path: Path, with_mask_score: bool = False, more: Sequence[pa.Field] = ()
) -> Iterator[Callable[[pa.Table], None]]:
    """Gives what takes the tables of some images one after the other; a row group holds whole images. `more`: columns
    besides those of `table_of`.

    Raises StoreError where the file cannot be written, as `replacing` does.
    """
    schema = pa.schema([*table_of([], with_mask_score).schema, *more])
    nothing = schema.empty_table()
    waiting = [nothing]
    with replacing(path) as temporary, pq.ParquetWriter(temporary, nothing.schema) as writer:

        def flush() -> None:
            writer.write_table(pa.concat_tables(waiting).combine_chunks())
            waiting[:] = [nothing]

        def write(table: pa.Table) -> None:
            waiting.append(table)
            if sum(map(len, waiting)) >= ROWS:
                flush()

        yield write
        flush()


def scored(path: Path, truth: Truth) -> pd.DataFrame:
    """Rows of `Truth.score` for a file of predictions, in its order."""
    with pq.ParquetFile(path) as file:
        parts = [truth.score(file.read_row_group(n).to_pandas()) for n in range(file.num_row_groups)]
    return pd.concat(parts, ignore_index=True)


def box_format_record(monitor: BoxFormatMonitor) -> dict[str, Any]:
    """What metrics.json says of how the boxes are written: `boxes` and `notes`; warns of what is in the notes."""
    check = monitor.check()
    for note in (notes := monitor.notes(check)):
        log.warning("%s", note)
    return {"boxes": check, "notes": notes}


def metrics_record(
    scores: pd.DataFrame, config: Config, method: str = LOCALIZATION_HEADS, **more: Any
) -> MetricsRecord:
    """metrics.json, from rows of `Truth.score`. `method` is the one that is counted and also given by slices; `more`
    holds what only some runs have."""
    own = scores[scores["method"] == method]
    of_objects = objects_notes(own[OBJECTS]) if OBJECTS in own else []
    return MetricsRecord.parse(
        {
            "split": config.dataset.split,
            "n_expressions": len(own),
            "n_images": int(own["image_id"].nunique()),
            "n_failed": int(own["error"].notna().sum()),
            **_failed(own),
            "n_empty": int((own["error"].isna() & ~own["answered"]).sum()),
            "confidence": config.evaluation.confidence,
            "methods": summarise(scores, config.evaluation),
            "slices": summarise_slices(scores, method, config.evaluation),
            **more,
            "notes": [*more.get("notes", ()), *of_objects],
        }
    )


def _failed(own: pd.DataFrame) -> dict[str, Any]:
    """Only where a sample failed: the file has no field that says nothing."""
    rows = own[own["error"].notna()].head(FAILED_NAMED)
    named = [{"sample_id": i, "reason": why} for i, why in zip(rows["sample_id"], rows["error"], strict=True)]
    return {"failed": named} if named else {}


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Raises StoreError where it cannot be written."""
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False)
