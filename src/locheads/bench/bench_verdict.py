"""How often the verdict on a head set is right: sets of random heads of the pocket model, judged on some images without
ground truth, against what they do on other images with it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from locheads.bench.meters import machine
from locheads.config import Config, PathsConfig, Stage
from locheads.dependence.config import DependenceConfig
from locheads.dependence.overlaps import PairTable, joined, overlaps_of, smoothed, table_of
from locheads.dependence.pairs import pairs_of
from locheads.dependence.word_verdict import Follows, judge
from locheads.evaluation.metrics import inside
from locheads.fitted_table import Row, figures, fitted_table, label
from locheads.grounding.boxes import Frames, peaks
from locheads.pipeline.cli import dispatch
from locheads.pipeline.prepare import prepare
from locheads.pipeline.run_life import run_life
from locheads.pipeline.setup import Setup
from locheads.pipeline.word_pairs import maps_of
from locheads.terminal import console, track
from locheads.types import ImageGroup, Sample

SETS, IMAGES, K, RESAMPLES = 240, (10, 20, 30, 60, 141), 3, 1000
BANDS = {"points at what is named": 0.5, "in part": 0.2, "does not": -1.0}
"""Kind of a set -> from which difference on: how often its peak lies in the named object, less how often in it for
another expression."""

Sets = Float[np.ndarray, "set layer head"]
"""1 for the heads of each set."""


def benchmark(
    sets: int = SETS, images: Sequence[int] = IMAGES, cache: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """Verdicts by kind of set and number of judged images. `cache`: of the maps; None: a temporary folder."""
    started = time.perf_counter()
    with TemporaryDirectory() as scratch:
        setup = _attended(Path(scratch), cache or Path(scratch) / "cache", max(images))
        chosen = _sets(setup, sets, seed)
        tables = list(_tables(setup, chosen))
        differences = _differences(setup, chosen)
        rows = [row for n in images for row in _rows(tables[:n], differences, len(tables[:n]), seed)]
    gaps = np.array([row["gap"] for row in rows if row["n_images"] == max(row["n_images"] for row in rows)])
    return {
        "benchmark": "verdict",
        "machine": machine(torch.device("cpu")),
        "sets": sets,
        "k": K,
        "judged_on": setup.config.dataset.discovery_split,
        "true_on": setup.config.dataset.split,
        "correlation": float(np.corrcoef(gaps, differences)[0, 1]),
        "seconds": round(time.perf_counter() - started, 1),
        "rows": rows,
    }


def show(record: dict[str, Any]) -> None:
    """Of each kind of set and number of images, how many sets got which verdict."""
    rows = []
    keys = dict.fromkeys((row["kind"], row["n_images"]) for row in record["rows"])
    for kind, n in sorted(keys, key=lambda key: (list(BANDS).index(key[0]), key[1])):
        own = [row["follows"] for row in record["rows"] if (row["kind"], row["n_images"]) == (kind, n)]
        rows.append(Row([kind, str(n), *(str(own.count(verdict.value)) for verdict in Follows)]))
    headings = [*label("the set", "images"), *figures(*(verdict.value for verdict in Follows))]
    title = f"{record['sets']} sets of {record['k']} random heads: how many are judged how"
    console.print(fitted_table(title, headings, rows))
    print(f"Peak gap on the most images, with what the sets do: Pearson {record['correlation']:.2f}.")


def _attended(folder: Path, cache: Path, images: int) -> Setup:
    """The pocket model's maps of judged images of train, and of val."""
    config = Config(
        dependence=DependenceConfig(images=images),
        paths=PathsConfig(outputs=str(folder), cache=str(cache)),
        stage=Stage.attend,
    )
    with run_life(folder / "run") as status:
        dispatch(config, folder / "run", status)
    return prepare(config, folder, {})


def _sets(setup: Setup, n: int, seed: int) -> Sets:
    """From all layers; every other set from one layer, so that whole sets follow, or do not."""
    rng, shape = np.random.default_rng([seed, 3]), (setup.identity.layers, setup.identity.heads)
    found = np.zeros((n, *shape), dtype=np.float32)
    for i, own in enumerate(found):
        among = np.arange(own.size) if i % 2 else rng.integers(shape[0]) * shape[1] + np.arange(shape[1])
        own.flat[rng.choice(among, K, replace=False)] = 1
    return found


def _fused(setup: Setup, group: ImageGroup, sets: Sets) -> tuple[list[Sample], Float[np.ndarray, "sample set row col"]]:
    """An image's samples, and the fused maps of every set for each."""
    samples, maps = maps_of(setup.store, group, None)
    return samples, np.einsum("klh,slhrc->skrc", sets, smoothed(maps, setup.config.grounding), optimize=True)


def _tables(setup: Setup, sets: Sets) -> Iterator[PairTable]:
    config = setup.config
    for image, group in enumerate(track(setup.inputs.judged, "sets", "images")):
        samples, maps = _fused(setup, group, sets)
        pairs = pairs_of(samples, config.prompt)
        yield table_of(overlaps_of(maps, pairs), pairs, image, config.dependence.tolerance)


def _differences(setup: Setup, sets: Sets) -> Float[np.ndarray, "set"]:
    """How often a set's peak lies in the named object's box, less how often it does for another object's expression."""
    own, swapped = [], []
    for group in track(setup.inputs.evaluated, "truth", "images"):
        samples, maps = _fused(setup, group, sets)
        (geometry,) = {attention.geometry for attention in setup.store.read([group], heads=())}
        pointed = [peaks(of_sample, Frames.of([geometry] * len(sets))) for of_sample in maps]
        for i, sample in enumerate(samples):
            hits = [inside(points, [sample.box] * len(sets)) for points in pointed]
            own.append(hits[i])
            swapped += [hits[j] for j, other in enumerate(samples) if other.box != sample.box]
    return np.mean(own, axis=0) - np.mean(swapped, axis=0)


def _rows(
    tables: Sequence[PairTable], differences: Float[np.ndarray, "set"], n_images: int, seed: int
) -> Iterator[dict[str, Any]]:
    whole = joined(tables)
    for number, difference in enumerate(track(differences, f"{n_images}", "sets")):
        one = replace(whole, overlap=whole.overlap[:, number], stays=whole.stays[:, number])
        verdict = judge(one, RESAMPLES, seed)
        kind = next(kind for kind, least in BANDS.items() if difference >= least)
        yield {
            "n_images": n_images,
            "set": number,
            "kind": kind,
            "follows": verdict.follows.value,
            "gap": verdict.gap,
            "difference": float(difference),
        }
