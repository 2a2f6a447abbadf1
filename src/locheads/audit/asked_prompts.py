"""What a segmenter would be asked, held against the true masks: of the run's own heads and grounding, without one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import isnan
from typing import Any

import numpy as np
from jaxtyping import Float

from locheads.audit.choice_grid import Change
from locheads.audit.effect_table import with_difference
from locheads.audit.effects import AuditPlan, OwnHeads, SamplesOfGrid, by_grid, grounded
from locheads.data.masks import decoded
from locheads.evaluation.metric_table import METRIC, OBJECTS
from locheads.evaluation.prompt_shares import asked_shares, share_of
from locheads.grounding.boxes import peaks
from locheads.segmenters.config import SegmenterConfig
from locheads.segmenters.prompting import FusedMap, prompt_of
from locheads.segmenters.segmenter import Prompt
from locheads.types import Attention, ImageGroup

SHARES = ("points_inside", "points_beside", "box_covers", "asked_box_iou")
"""Metrics of prompts, in the order of tables; see `asked_shares`."""


@dataclass(frozen=True)
class AskedPrompt:
    """One way of asking."""

    config: SegmenterConfig
    option: str = ""
    """As segmenter.points; empty of the run's own."""
    value: str = ""


def asked_prompts(own: SegmenterConfig, options: Iterable[Sequence[Change]]) -> list[AskedPrompt]:
    """The run's own first, then each value by itself; none twice. Raises ConfigError for settings that exclude each
    other."""
    changed = (AskedPrompt(replace(own, **c.values), c.option, c.label) for c in chain.from_iterable(options))
    found: dict[str, AskedPrompt] = {}
    for asked in [AskedPrompt(own), *changed]:
        found.setdefault(repr(asked.config), asked)
    return list(found.values())


def measure_prompts(
    groups: Sequence[ImageGroup],
    attentions: Iterable[Attention],
    plan: AuditPlan,
    own: OwnHeads,
    asked: Sequence[AskedPrompt],
) -> Float[np.ndarray, "prompt image metric 2"]:
    """Numerator and denominator of each of SHARES, per prompt and image, by the first choice of `plan`; 0 and 0 of what
    a prompt does not ask. A sample without an answer counts 0 of 1."""
    samples = [(group, sample) for group in groups for sample in group.samples]
    place = {sample.sample_id: i for i, (_, sample) in enumerate(samples)}
    image = np.repeat(np.arange(len(groups)), [len(group.samples) for group in groups])
    found = [{name: np.zeros(len(samples)) for name in asked_shares(a.config)} for a in asked]
    for same in by_grid(attentions, place, samples, plan, own):
        for row, shares in zip(same.rows, _shares(same, plan, own, asked), strict=True):
            for columns, of_prompt in zip(found, shares, strict=True):
                for name, value in of_prompt.items():
                    columns[name][row] = value
    named = {}
    if any(sample.boxes is not None for _, sample in samples):
        named[OBJECTS] = np.array([len(sample.objects) for _, sample in samples])
    result = np.zeros((len(asked), len(groups), len(SHARES), 2))
    for number, columns in enumerate(found):
        for name in columns:
            for j, part in enumerate(METRIC[name].parts(columns | named)):
                result[number, :, SHARES.index(name), j] = np.bincount(image, weights=part, minlength=len(groups))
    return result


def _shares(
    same: SamplesOfGrid, plan: AuditPlan, own: OwnHeads, asked: Sequence[AskedPrompt]
) -> Iterable[list[dict[str, float]]]:
    """Of each sample and prompt what `asked_shares` names."""
    stack, masks = grounded(same, 0, plan, own), decoded(same.samples)
    points = peaks(stack.fused, same.frames).tolist()
    for i, (sample, geometry) in enumerate(zip(same.samples, same.geometries, strict=True)):
        box = stack.box(i)
        prompts: list[Prompt | None] = [None] * len(asked)
        if box is not None:
            peak = None if isnan(points[i][0]) else (points[i][0], points[i][1])
            given = box, (geometry.width, geometry.height), peak, stack.mask(i), FusedMap(stack.fused[i], geometry)
            prompts = [prompt_of(a.config, *given) for a in asked]
        yield [share_of(prompt, sample, masks, a.config) for prompt, a in zip(prompts, asked, strict=True)]


def prompt_records(
    asked: Sequence[AskedPrompt], sums: Float[np.ndarray, "prompt image metric 2"], confidence: float
) -> list[dict[str, Any]]:
    """What audit.json says of each prompt: its shares with their intervals over images and, where the run's own prompt
    has other ones, the paired differences to it."""
    return [
        {"option": a.option, "value": a.value, "metrics": _estimates(a, asked[0], sums[[0, i]], confidence)}
        for i, a in enumerate(asked)
    ]


def _estimates(
    asked: AskedPrompt, first: AskedPrompt, sums: Float[np.ndarray, "2 image metric 2"], confidence: float
) -> Mapping[str, Any]:
    found, of_first = {}, asked_shares(first.config)
    for name in asked_shares(asked.config):
        tops, bottoms = np.moveaxis(sums[:, :, SHARES.index(name)], -1, 0)
        found[name] = with_difference(tops, bottoms, confidence)
        if name not in of_first or ((tops[0] == tops[1]).all() and (bottoms[0] == bottoms[1]).all()):
            del found[name]["difference"]
    return found
