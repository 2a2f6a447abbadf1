"""Some images' samples under every choice: each step once for all choices that share it, all samples at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools import mask as coco

from locheads.audit.choice_grid import Choice
from locheads.audit.config import AUDITED, COLUMNS, TRUTH
from locheads.discovery.config import SelectionKind
from locheads.discovery.frequencies import greedy_heads
from locheads.discovery.scores import score_each
from locheads.evaluation.metrics import box_iou, inside, peaks
from locheads.geometry import Geometry
from locheads.grounding.boxes import Frames
from locheads.grounding.config import GroundingConfig, Sinks
from locheads.grounding.ground_maps import GroundedStack, StepCache, ground_stack, step_settings
from locheads.grounding.sinks import SinkCells
from locheads.types import Attention, Discovery, HeadIndex, ImageGroup, Sample


@dataclass(frozen=True)
class AuditPlan:
    """What the choices need besides the maps."""

    choices: tuple[Choice, ...]
    heads: Mapping[str, tuple[HeadIndex, ...]]
    """Per `head_key` the k heads of discovery; absent where discovery failed."""
    discoveries: Mapping[str, Discovery]
    """Per `criterion_key`, for greedy selection."""
    sinks: Mapping[float, SinkCells]
    """By sink_factor."""


def criterion_key(choice: Choice) -> str:
    """Equal for choices that discover the same heads."""
    return repr([(key, value) for key, value in vars(choice.criterion).items() if key != "name"])


def head_key(choice: Choice) -> str:
    """Equal for choices whose heads are found by the same rules."""
    return f"{choice.selection.kind.value} {choice.k} {criterion_key(choice)}"


@dataclass
class _SamplesOfGrid:
    """Those whose maps have the same rows and columns."""

    samples: list[Sample] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    """Their places in the chunk."""
    geometries: list[Geometry] = field(default_factory=list)
    attentions: list[tuple[Attention, int]] = field(default_factory=list)
    cache: StepCache = field(default_factory=StepCache)

    @property
    def boxes(self) -> Float[np.ndarray, "n 4"]:
        return np.array([sample.box for sample in self.samples])


def measure(
    groups: Sequence[ImageGroup], attentions: Iterable[Attention], plan: AuditPlan
) -> Float[np.ndarray, "choice image metric 2"]:
    """Numerator and denominator of each of AUDITED, per choice and image.

    A sample without attention, without heads or with NaN counts as a miss.
    """
    samples = [(group, sample) for group in groups for sample in group.samples]
    place = {sample.sample_id: i for i, (_, sample) in enumerate(samples)}
    image = np.repeat(np.arange(len(groups)), [len(group.samples) for group in groups])
    grids = _by_grid(attentions, place, samples)
    scored = _greedy(grids, plan)
    areas = np.array([int(coco.area(sample.mask)) for _, sample in samples])
    boxes = np.array([sample.box for _, sample in samples], dtype=np.float64)
    sizes = [(group.width, group.height) for group, _ in samples]
    truth = dict(zip(TRUTH, np.column_stack([boxes, sizes]).T, strict=True))
    result = np.empty((len(plan.choices), len(groups), len(AUDITED), 2))
    # Choices that share early steps are neighbours, because the cache remembers a step's last value only.
    for number in sorted(range(len(plan.choices)), key=lambda i: _order(plan.choices[i], plan)):
        rows = _misses(areas)
        for same in grids:
            rows[same.rows] = _rows(same, plan.choices[number], plan, scored)
        table = truth | dict(zip(COLUMNS, rows.T, strict=True))
        table["pointed"] = inside(rows[:, -2:], boxes)
        for i, metric in enumerate(AUDITED):
            for j, part in enumerate(metric.parts(table)):
                result[number, :, i, j] = np.bincount(image, weights=part, minlength=len(groups))
    return result


def _by_grid(
    attentions: Iterable[Attention], place: Mapping[str, int], samples: Sequence[tuple[ImageGroup, Sample]]
) -> list[_SamplesOfGrid]:
    grids: dict[tuple[int, int], _SamplesOfGrid] = {}
    for attention in attentions:
        same = grids.setdefault((attention.geometry.rows, attention.geometry.cols), _SamplesOfGrid())
        for row, sample_id in enumerate(attention.sample_ids):
            same.rows.append(place[sample_id])
            same.samples.append(samples[place[sample_id]][1])
            same.geometries.append(attention.geometry)
            same.attentions.append((attention, row))
    return list(grids.values())


def _misses(areas: np.ndarray) -> Float[np.ndarray, "sample column"]:
    rows = np.zeros((len(areas), len(COLUMNS)))
    rows[:, COLUMNS.index("union")] = areas
    rows[:, -2:] = np.nan  # no peak
    return rows


def _greedy(grids: Iterable[_SamplesOfGrid], plan: AuditPlan) -> dict[str, dict[str, list[HeadIndex]]]:
    """Per `head_key` of greedy choices each sample's own heads."""
    greedy = [choice for choice in plan.choices if choice.selection.kind == SelectionKind.greedy]
    greedy_choices = {head_key(c): c for c in greedy if criterion_key(c) in plan.discoveries}
    found: dict[str, dict[str, list[HeadIndex]]] = {head_key(choice): {} for choice in greedy}
    criteria = {c.criterion.numbers_key(): c.criterion for c in greedy_choices.values()}
    images = {id(a): a for same in grids for a, _ in same.attentions} if criteria else {}
    for attention in images.values():
        scores = dict(zip(criteria, score_each(attention, [*criteria.values()]), strict=True))
        for key, choice in greedy_choices.items():
            own, discovery = scores[choice.criterion.numbers_key()], plan.discoveries[criterion_key(choice)]
            found[key] |= greedy_heads(own, discovery, choice.k, choice.criterion)
    return found


def _same_heads(choice: Choice, plan: AuditPlan) -> str:
    """Equal for choices that ground with the same heads, whatever led to them."""
    if choice.selection.kind == SelectionKind.greedy:
        # A sample's own best heads do not depend on how many vote in discovery.
        return head_key(replace(choice, criterion=replace(choice.criterion, candidates=1)))
    return " ".join(map(str, plan.heads.get(head_key(choice), ())))


def _factor(g: GroundingConfig) -> float | None:
    return g.sink_factor if g.sinks == Sinks.mean_map else None


def _order(choice: Choice, plan: AuditPlan) -> str:
    g = choice.grounding
    return repr((_same_heads(choice, plan), _factor(g), *step_settings(g).values()))


def _rows(
    same: _SamplesOfGrid, choice: Choice, plan: AuditPlan, scored: Mapping[str, Mapping[str, list[HeadIndex]]]
) -> Float[np.ndarray, "sample column"]:
    """COLUMNS of each sample."""
    g, cache = choice.grounding, same.cache
    maps, sinks = cache.get(
        "maps",
        (_same_heads(choice, plan), _factor(g)),
        (),
        lambda: _take(same, _heads_of(choice, plan, scored, same.samples), plan, _factor(g)),
    )
    stack = ground_stack(maps, same.geometries, g, sinks, cache)
    points = cache.get("peaks", (), (stack.fused,), lambda: peaks(stack.fused, Frames.of(same.geometries)))
    boxed = cache.get("boxed", (), (stack.boxes,), lambda: box_iou(stack.boxes, same.boxes))
    overlaps = cache.get(f"overlaps {step_settings(g)['places']}", (), (stack.places,), lambda: _overlaps(same, stack))
    masked = cache.get("masked", (), (stack.mask_cells, overlaps), lambda: _masked(stack, overlaps))
    return np.concatenate([boxed[:, None], masked, points], axis=1)


def _heads_of(
    choice: Choice, plan: AuditPlan, scored: Mapping[str, Mapping[str, list[HeadIndex]]], samples: Sequence[Sample]
) -> list[tuple[HeadIndex, ...]]:
    """Each sample's heads; none where there are none to be had."""
    key = head_key(choice)
    match choice.selection.kind:
        case SelectionKind.fixed:
            return [plan.heads.get(key, ())] * len(samples)
        case SelectionKind.greedy:
            return [tuple(scored[key].get(sample.sample_id, ())) for sample in samples]
        case _:
            assert_never(choice.selection.kind)


def _take(
    same: _SamplesOfGrid, own: Sequence[tuple[HeadIndex, ...]], plan: AuditPlan, factor: float | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """-> (maps [sample, head, row, col], the same of the sinks where they are removed).

    Zeros stand for what cannot be grounded (no head, NaN) and for the heads that a sample has fewer than others.
    """
    grid = (same.geometries[0].rows, same.geometries[0].cols)
    k = max(1, max(map(len, own)))
    maps = np.zeros((len(own), k, *grid), dtype=np.float32)
    cells = np.zeros((len(own), k, *grid), dtype=bool)
    known = None if factor is None else plan.sinks.get(factor)
    for i, ((attention, row), heads) in enumerate(zip(same.attentions, own, strict=True)):
        taken = attention.chosen(row, heads) if heads else None
        if taken is None or not np.isfinite(taken).all():
            continue
        maps[i, : len(heads)] = taken
        if known is not None and (found := known.get(grid, heads)) is not None:
            cells[i, : len(heads)] = found
    return maps, cells if known is not None else None


def _masked(stack: GroundedStack, overlaps: Sequence["Overlap"]) -> Float[np.ndarray, "n 2"]:
    """Intersection and union of the masks."""
    result = np.empty((len(stack.fused), 2))
    for place, cells, overlap in zip(stack.places, stack.mask_cells, overlaps, strict=True):
        result[place.at] = np.stack(overlap.intersection_union(cells), axis=1)
    return result


def _overlaps(same: _SamplesOfGrid, stack: GroundedStack) -> list["Overlap"]:
    return [Overlap.of([same.samples[i] for i in place.at], place.lattices) for place in stack.places]


@dataclass(frozen=True)
class Overlap:
    """How many pixels each lattice cell holds, by the rule that a pixel belongs to the cell of its centre."""

    inside: Int[np.ndarray, "n row col"]
    """Pixels of the object."""
    pixels: Int[np.ndarray, "n row col"]
    """Pixels of the image."""
    areas: Int[np.ndarray, "n"]
    """Pixels of the whole object."""

    @staticmethod
    def of(samples: Sequence[Sample], geometries: Sequence[Geometry]) -> "Overlap":
        """`geometries`: of each sample's lattice, all with the same rows and columns."""
        inside, pixels = [], []
        for sample, geometry in zip(samples, geometries, strict=True):
            rows, cols = geometry.edges()
            inside.append(_counts(coco.decode(sample.mask), rows, cols))
            pixels.append(np.outer(np.diff(rows), np.diff(cols)))
        areas = np.array([int(coco.area(sample.mask)) for sample in samples])
        return Overlap(np.array(inside, dtype=np.int32), np.array(pixels, dtype=np.int32), areas)

    def intersection_union(
        self, cells: Bool[np.ndarray, "n row col"]
    ) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """In pixels, of the mask that the cells make with each object."""
        flat = cells.reshape(len(cells), -1).view(np.uint8)
        intersection, area = (
            np.einsum("nc,nc->n", flat, counts.reshape(len(cells), -1), dtype=np.int64)
            for counts in (self.inside, self.pixels)
        )
        return intersection, area + self.areas - intersection


def _counts(mask: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> Int[np.ndarray, "row col"]:
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int64)
    total[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    corners = total[np.ix_(rows, cols)]
    return np.diff(np.diff(corners, axis=0), axis=1)
