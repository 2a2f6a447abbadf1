"""The reader of dataset=agd20k on files that a test makes."""

from pathlib import Path
from typing import Any

import yaml

from locheads.data.agd20k import Agd20kDataSet
from locheads.data.config import DatasetConfig

CONF = Path(__file__).parents[3] / "conf" / "dataset" / "agd20k.yaml"


def agd20k(folder: Path, **changes: Any) -> Agd20kDataSet:
    declared = yaml.safe_load(CONF.read_text())
    settings = {key: declared[key] for key in ("template", "affordances")} | changes
    return Agd20kDataSet(DatasetConfig(folder=str(folder), **settings), folder / "cache")
