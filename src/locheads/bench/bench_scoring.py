"""Scoring a file of predictions, as predictions=FILE does: boxes and masks, on one core, and how far memory rises."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools import mask as coco
from rich.progress import track

from locheads.bench.meters import machine, peak_extra_mib, seconds, spread
from locheads.data.config import BoxFormat, PredictionsConfig
from locheads.data.masks import tight_box
from locheads.data.prediction_files import read_predictions
from locheads.evaluation.truth import score_answers
from locheads.types import ImageGroup, Sample

PREDICTIONS, ROUNDS = 100_000, 3
PER_IMAGE = 7
"""As in RefCOCO val."""
WIDTH, HEIGHT = 640, 480
SHAPES = 500
"""Different masks that the samples share."""
FORM = PredictionsConfig(box_format=BoxFormat.xyxy)


def benchmark(rounds: int = ROUNDS, n: int = PREDICTIONS) -> dict[str, Any]:
    """Milliseconds per prediction, from the file to the scores; memory of all, and of a tenth of them."""
    where = machine(torch.device("cpu"))
    shapes = _shapes()
    kinds = ("boxes", "masks")
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        all_, few = ({kind: _scoring(Path(folder), kind, shapes, size) for kind in kinds} for size in (n, n // 10))
        for run in few.values():
            run()  # what the first call loads is nobody's memory
        memory = {kind: [peak_extra_mib(of[kind], torch.device("cpu")) for of in (all_, few)] for kind in kinds}
        for _ in track(range(rounds), "rounds", transient=True):
            for kind, run in all_.items():
                times[kind].append(1000 * seconds(run, torch.device("cpu")) / n)
    return {
        "benchmark": "evaluate",
        "machine": where,
        "rounds": rounds,
        "unit": "ms per prediction",
        "steps": [
            {
                "name": f"{kind}, {n:,}",
                "time": spread(found),
                "per_second": 1000 / float(np.median(found)),
                "peak_extra_mib": memory[kind][0],
                "peak_extra_mib_of_a_tenth": memory[kind][1],
            }
            for kind, found in times.items()
        ],
    }


def _scoring(folder: Path, kind: str, shapes: list[dict[str, object]], n: int) -> Callable[[], None]:
    """Writes a file about n samples -> what scores it, and keeps nothing but a sum."""
    path, groups = folder / f"{kind}_{n}.jsonl", _groups(shapes, n)
    with path.open("w") as file:
        file.writelines(_lines(kind, shapes, n))
    sizes = {sample.sample_id: (WIDTH, HEIGHT) for group in groups for sample in group.samples}

    def run() -> None:
        answers = read_predictions(path, FORM, sizes, "the benchmark")
        total = sum(scores["box_iou"].sum() for _, scores in score_answers(answers, groups, "absent"))
        if not total > 0:
            raise ValueError("nothing was scored")

    return run


def _shapes() -> list[dict[str, object]]:
    """Masks of a few ellipses each, such as a COCO object has: about 200 runs."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(SHAPES):
        mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        centre = rng.uniform((100, 100), (WIDTH - 100, HEIGHT - 100))
        for _ in range(3):
            at, axes = (centre + rng.normal(0, 30, 2)).astype(int), rng.integers(20, 90, 2)
            cv2.ellipse(mask, at.tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, 1, -1)
        code = coco.encode(np.asfortranarray(mask))
        found.append({"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()})
    return found


def _groups(shapes: list[dict[str, object]], n: int) -> list[ImageGroup]:
    boxes = [tight_box(shape) for shape in shapes]

    def sample(i: int) -> Sample:
        return Sample(str(i), str(i), "the object on the left", boxes[i % SHAPES], shapes[i % SHAPES], "thing", 1)

    starts = range(0, n, PER_IMAGE)
    return [
        ImageGroup(str(start), Path("none.jpg"), WIDTH, HEIGHT,
                   tuple(sample(i) for i in range(start, min(n, start + PER_IMAGE))))
        for start in starts
    ]  # fmt: skip


def _lines(kind: str, shapes: list[dict[str, object]], n: int) -> Iterator[str]:
    """The shape two further on answers: some overlap, some do not."""
    boxes = [list(tight_box(shape)) for shape in shapes]
    for i in range(n):
        answer = {"box": boxes[(i + 2) % SHAPES]} if kind == "boxes" else {"mask": shapes[(i + 2) % SHAPES]}
        yield json.dumps({"id": str(i)} | answer) + "\n"
