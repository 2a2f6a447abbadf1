"""The official number of refs, images and expressions per split: `split_counts.csv`."""

import csv
from importlib import resources

Counts = tuple[int, int, int]
"""(refs, images, expressions)."""


def official_counts(name: str) -> dict[str, Counts]:
    """Split -> counts of "refcoco/unc", "refcoco+/unc" or "refcocog/umd"; empty for a name without official counts."""
    text = (resources.files("locheads.data") / "split_counts.csv").read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        row["split"]: (int(row["refs"]), int(row["images"]), int(row["expressions"]))
        for row in rows
        if f"{row['dataset']}/{row['split_by']}" == name
    }
