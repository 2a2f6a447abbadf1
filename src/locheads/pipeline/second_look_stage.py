"""A second look, and a third: the LVLM is asked about parts of the evaluated images, around its last answers."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from locheads.config import Config
from locheads.data.image_groups import merged
from locheads.evaluation.methods import HeadPlan
from locheads.evaluation.second_look import Views, gains, look
from locheads.grounding.config import Contrast
from locheads.grounding.contrast import probes_of
from locheads.grounding.zoom import next_window, part_id, part_of, whole
from locheads.pipeline.attend_stage import attend_parts
from locheads.pipeline.loader import Loader
from locheads.pipeline.setup import Failures, Setup
from locheads.records.zoom_file import GainPart, ZoomFile
from locheads.store.needed_maps import NeededMaps
from locheads.terminal import track
from locheads.types import ImageGroup, Rect, Sample

Seen = list[tuple[ImageGroup, Sample, Rect]]
"""(image, sample, the part of the image that it is asked about)."""


def look_again(setup: Setup, loader: Loader, plan: HeadPlan, failures: Failures) -> Views | None:
    """Fills the store with what the localization heads see of the parts; None where zoom.looks=0.

    `failures` gets the looks that failed, under the ids of `part_id`.
    """
    config = setup.config.zoom
    if config.looks == 0:
        return None
    views: dict[str, tuple[Rect, ...]] = {}
    for _ in range(config.looks):
        seen = list(_next(setup, plan, Views(config, views), failures))
        if not seen:
            break
        failures |= attend_parts(setup, loader, *_asked(setup, plan, seen))
        for _, sample, view in seen:
            views[sample.sample_id] = (*views.get(sample.sample_id, ()), view)
    return Views(config, views)


def zoom_record(views: Views, scores: pd.DataFrame, failures: Failures, config: Config) -> ZoomFile:
    """zoom.json. `scores`: rows of `Truth.score` after the first look and after all."""
    image = dict(zip(scores["sample_id"], scores["image_id"], strict=True))
    asked = [
        [(image[sample_id], seen[n]) for sample_id, seen in views.of_sample.items() if len(seen) > n]
        for n in range(views.config.looks)
    ]
    return ZoomFile(
        name=views.config.name,
        combine=views.config.combine.value,
        n_asked=tuple(map(len, asked)),
        n_parts=tuple(len(set(parts)) for parts in asked),
        n_failed=sum(views.failure(sample_id, failures) is not None for sample_id in views.of_sample),
        gains=tuple(GainPart(**vars(gain)) for gain in gains(scores, config.evaluation, config.seed)),
        windows=dict(views.of_sample),
        confidence=config.evaluation.confidence,
    )


def _next(setup: Setup, plan: HeadPlan, views: Views, failures: Failures) -> Iterator[tuple[ImageGroup, Sample, Rect]]:
    """What is to be looked at after the looks so far. A sample whose last look found nothing, failed, or would be
    repeated is done."""
    n_looks = max(map(len, views.of_sample.values()), default=0)
    for group in track(setup.inputs.evaluated, "windows", "images"):
        for sample in group.samples:
            seen = views.get(sample.sample_id)
            if len(seen) < n_looks or sample.sample_id in failures or views.failure(sample.sample_id, failures):
                continue
            last = seen[-1] if seen else whole(group)
            try:
                found = look(setup.store.read, group, sample, last, plan, setup.config.grounding)
            except ValueError:  # its row tells why
                continue
            if (window := next_window(found, group.width, group.height, views.config)) is not None:
                yield group, sample, window


def _asked(setup: Setup, plan: HeadPlan, seen: Seen) -> tuple[list[ImageGroup], NeededMaps]:
    """-> (the parts, with their probes where the grounding contrasts with them; what is needed of them)."""
    parts = merged(part_of(replace(group, samples=(sample,)), view) for group, sample, view in seen)
    heads = {part_id(sample.sample_id, view): plan.heads(sample.sample_id) for _, sample, view in seen}
    if setup.config.grounding.contrast == Contrast.probes:
        for part in parts:
            every = {head for sample in part.samples for head in heads[sample.sample_id]}
            heads |= dict.fromkeys((probe.sample_id for probe in probes_of(part).samples), tuple(every))
        parts = merged([*parts, *map(probes_of, parts)])
    return parts, NeededMaps(frozenset(), heads)
