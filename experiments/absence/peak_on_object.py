"""How often the map's peak lies on some annotated object, for expressions of something and of nothing, from the records
of finished runs: `python experiments/absence/peak_on_object.py RUN_FOLDER ...`. Reads the run's instances.json, too."""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from locheads.data.refer import read_instances
from locheads.evaluation.intervals import ratio_interval
from locheads.evaluation.metric_table import LOCALIZATION_HEADS, OBJECTS, percent
from locheads.evaluation.metrics import inside
from locheads.pipeline.cli import validated
from locheads.pipeline.inputs import locate
from locheads.types import Box


def object_boxes(path: Path) -> dict[str, list[Box]]:
    """Image id -> the boxes of all its annotated objects, xyxy in pixels."""
    found = defaultdict(list)
    for annotation in read_instances(path)["annotations"]:
        x, y, width, height = annotation["bbox"]
        found[str(annotation["image_id"])].append((x, y, x + width, y + height))
    return found


def sentence(folder: Path) -> str:
    """The two shares of a run's own heads, with their intervals over images."""
    config = validated(yaml.safe_load((folder / "config.yaml").read_text()))
    boxes = object_boxes(locate(config.dataset, config.paths)[0] / config.dataset.instances)
    scores = pd.read_parquet(folder / "scores.parquet")
    scores = scores[scores["method"] == LOCALIZATION_HEADS]
    points = scores[["peak_x", "peak_y"]].to_numpy()
    images = scores["image_id"].astype(str).tolist()
    on = np.array([inside(np.tile(p, (len(boxes[i]), 1)), boxes[i]).any() for p, i in zip(points, images, strict=True)])
    absent = scores[OBJECTS].to_numpy() == 0
    told = []
    for name, kind in (("nothing", absent), ("something", ~absent)):
        found = ratio_interval(on[kind], np.ones(kind.sum()), scores.loc[kind, "image_id"])
        ends = f"[{percent(found.low)}, {percent(found.high)}]"
        told.append(f"{percent(found.value)} {ends} % of {kind.sum()} expressions of {name}")
    return f"{folder}: the peak lies in some object's box for {', for '.join(told)}"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(sentence(Path(argument)))
