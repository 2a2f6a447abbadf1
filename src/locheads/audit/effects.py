"""Some images' samples under every choice: each step once for all choices that share it, all samples at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Any, assert_never

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools import mask as coco

from locheads.audit.choice_grid import Choice
from locheads.audit.config import AUDITED, COLUMNS, TRUTH
from locheads.dependence.head_dependence import HeadDependence
from locheads.discovery.config import SelectionKind
from locheads.discovery.frequencies import greedy_heads
from locheads.discovery.scores import with_dependence
from locheads.evaluation.metric_table import OBJECTS
from locheads.evaluation.metrics import box_iou, inside
from locheads.evaluation.several import points_at
from locheads.geometry import Geometry
from locheads.grounding.boxes import Frames, peaks
from locheads.grounding.config import Contrast, GroundingConfig, Sinks
from locheads.grounding.ground_maps import GroundedStack, StepCache, ground_stack, step_settings
from locheads.grounding.sinks import SinkCells
from locheads.types import Attention, Discovery, HeadIndex, HeadScores, ImageGroup, Sample

OwnHeads = Mapping[str, Mapping[str, Sequence[HeadIndex]]]
"""Per `ranking_key` of greedy choices each sample's own heads, by its id: as many as any choice takes."""


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
    dependence: HeadDependence | None = None
    """Of the heads on the words, where it was measured."""

    @cached_property
    def greedy(self) -> dict[str, Choice]:
        """Per `ranking_key` the greedy choice that takes the most heads of it, where discovery did not fail."""
        chosen = [c for c in self.choices if _is_greedy(c) and criterion_key(c) in self.discoveries]
        return {ranking_key(choice): choice for choice in sorted(chosen, key=lambda choice: choice.k)}

    @cached_property
    def fixed(self) -> tuple[HeadIndex, ...]:
        """Every head that grounds all samples by any choice."""
        sets = (self.heads.get(head_key(choice), ()) for choice in self.choices if not _is_greedy(choice))
        return tuple(sorted({head for heads in sets for head in heads}))

    @cached_property
    def same_heads(self) -> list[tuple[Any, ...]]:
        """Per choice what is equal for those that ground with the same heads, whatever led to them: the heads of all
        samples, or the `ranking_key` of each sample's own and their number."""
        return [
            (ranking_key(c), c.k) if _is_greedy(c) else tuple(map(str, self.heads.get(head_key(c), ())))
            for c in self.choices
        ]

    @cached_property
    def order(self) -> list[int]:
        """Choices that share early steps are neighbours, because a cache remembers a step's last value only."""
        configs = [choice.grounding for choice in self.choices]
        keys = [
            (g.contrast.value, h, _factor(g), *step_settings(g).values())
            for h, g in zip(self.same_heads, configs, strict=True)
        ]
        return sorted(range(len(keys)), key=lambda number: repr(keys[number]))


def criterion_key(choice: Choice) -> str:
    """Equal for choices that discover the same heads."""
    return repr([(key, value) for key, value in vars(choice.criterion).items() if key != "name"])


def head_key(choice: Choice) -> str:
    """Equal for choices whose heads are found by the same rules."""
    return f"{choice.selection.kind.value} {choice.k} {criterion_key(choice)}"


def ranking_key(choice: Choice) -> str:
    """Equal for choices that rank the heads of a sample alike: how many vote in discovery does not matter there."""
    return criterion_key(replace(choice, criterion=replace(choice.criterion, candidates=1)))


def own_heads(scores: Mapping[tuple[str, ...], HeadScores], plan: AuditPlan) -> OwnHeads:
    """Of the samples whose numbers these are, by `CriterionConfig.numbers_key`."""
    found = {key: with_dependence(of_key, plan.dependence) for key, of_key in scores.items()}
    return {
        key: greedy_heads(found[c.criterion.numbers_key()], plan.discoveries[criterion_key(c)], c.k, c.criterion)
        for key, c in plan.greedy.items()
    }


def heads_to_read(sample_ids: Iterable[str], plan: AuditPlan, own: OwnHeads) -> list[HeadIndex]:
    """Every head that grounds one of the samples by any choice: first those that ground all samples."""
    found = {head for heads in own.values() for sample_id in sample_ids for head in heads.get(sample_id, ())}
    return [*plan.fixed, *sorted(found.difference(plan.fixed))]


def _is_greedy(choice: Choice) -> bool:
    match choice.selection.kind:
        case SelectionKind.fixed:
            return False
        case SelectionKind.greedy:
            return True
        case _:
            assert_never(choice.selection.kind)


@dataclass
class SamplesOfGrid:
    """Those whose maps have the same rows and columns, with the maps that any choice reads."""

    samples: list[Sample] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    """Their places in the chunk."""
    geometries: list[Geometry] = field(default_factory=list)
    heads: list[list[HeadIndex]] = field(default_factory=list)
    """Of each sample, see `heads_to_read`."""
    taken: list[Float[np.ndarray, "head row col"]] = field(default_factory=list)
    """Their maps."""
    cache: StepCache = field(default_factory=StepCache)

    @cached_property
    def boxes(self) -> Float[np.ndarray, "n 4"]:
        return np.array([sample.box for sample in self.samples], dtype=np.float64)

    @cached_property
    def frames(self) -> Frames:
        return Frames.of(self.geometries)

    @cached_property
    def maps(self) -> Float[np.ndarray, "n head row col"]:
        return self._stacked(self.taken)

    @cached_property
    def finite(self) -> Bool[np.ndarray, "n head"]:
        return np.isfinite(self.maps).all(axis=(2, 3))

    @cached_property
    def places(self) -> list[dict[HeadIndex, int]]:
        """Of each sample's heads among its maps."""
        return [{head: place for place, head in enumerate(heads)} for heads in self.heads]

    def sinks(self, known: SinkCells) -> Bool[np.ndarray, "n head row col"]:
        """The cells that are removed of `maps`; none on a grid that no discovery sample had."""
        rows, cols = self.geometries[0].rows, self.geometries[0].cols
        found = [known.get((rows, cols), heads) for heads in self.heads]
        return self._stacked([np.zeros((0, rows, cols), bool) if cells is None else cells for cells in found])

    def _stacked(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The last one stands for a head that is not there."""
        stack = np.zeros((len(parts), max(map(len, self.heads)) + 1, *parts[0].shape[1:]), parts[0].dtype)
        for whole, part in zip(stack, parts, strict=True):
            whole[: len(part)] = part
        return stack


def measure(
    groups: Sequence[ImageGroup],
    read: Callable[[Contrast], Iterable[Attention]],
    plan: AuditPlan,
    own: OwnHeads | None = None,
) -> Float[np.ndarray, "choice image metric 2"]:
    """Numerator and denominator of each of AUDITED, per choice and image. `read`: gives the groups' contrasted maps.

    A sample without attention, without heads or with NaN counts as a miss.
    """
    own = own or {}
    samples = [(group, sample) for group in groups for sample in group.samples]
    place = {sample.sample_id: i for i, (_, sample) in enumerate(samples)}
    image = np.repeat(np.arange(len(groups)), [len(group.samples) for group in groups])
    areas = np.array([int(coco.area(sample.mask)) for _, sample in samples])
    boxes = np.array([sample.box for _, sample in samples], dtype=np.float64)
    sizes = [(group.width, group.height) for group, _ in samples]
    truth = dict(zip(TRUTH, np.column_stack([boxes, sizes]).T, strict=True))
    objects = [sample.objects for _, sample in samples]
    several = any(sample.boxes is not None for _, sample in samples)
    if several:
        truth[OBJECTS] = np.array([len(own) for own in objects])
    result = np.empty((len(plan.choices), len(groups), len(AUDITED), 2))
    for contrast, numbers in groupby(plan.order, lambda number: plan.choices[number].grounding.contrast):
        grids = by_grid(read(contrast), place, samples, plan, own)
        for number in numbers:
            rows = _misses(areas)
            for same in grids:
                rows[same.rows] = _rows(same, number, plan, own)
            table = truth | dict(zip(COLUMNS, rows.T, strict=True))
            table["pointed"] = points_at(rows[:, -2:], objects) if several else inside(rows[:, -2:], boxes)
            for i, metric in enumerate(AUDITED):
                for j, part in enumerate(metric.parts(table)):
                    result[number, :, i, j] = np.bincount(image, weights=part, minlength=len(groups))
    return result


def by_grid(
    attentions: Iterable[Attention],
    place: Mapping[str, int],
    samples: Sequence[tuple[ImageGroup, Sample]],
    plan: AuditPlan,
    own: OwnHeads,
) -> list[SamplesOfGrid]:
    """`place`: of each sample id among the `samples`, which may lack attention."""
    grids: dict[tuple[int, int], SamplesOfGrid] = {}
    for attention in attentions:
        same = grids.setdefault((attention.geometry.rows, attention.geometry.cols), SamplesOfGrid())
        for row, sample_id in enumerate(attention.sample_ids):
            heads = heads_to_read([sample_id], plan, own)
            same.rows.append(place[sample_id])
            same.samples.append(samples[place[sample_id]][1])
            same.geometries.append(attention.geometry)
            same.heads.append(heads)
            same.taken.append(attention.chosen(row, heads))
    return list(grids.values())


def _misses(areas: np.ndarray) -> Float[np.ndarray, "sample column"]:
    rows = np.zeros((len(areas), len(COLUMNS)))
    rows[:, COLUMNS.index("union")] = areas
    rows[:, -2:] = np.nan  # no peak
    return rows


def _factor(g: GroundingConfig) -> float | None:
    return g.sink_factor if g.sinks == Sinks.mean_map else None


def _rows(same: SamplesOfGrid, number: int, plan: AuditPlan, own: OwnHeads) -> Float[np.ndarray, "sample column"]:
    """COLUMNS of each sample."""
    stack, cache = grounded(same, number, plan, own), same.cache
    points = cache.get("peaks", (), (stack.fused,), lambda: peaks(stack.fused, same.frames))
    boxed = cache.get("boxed", (), (stack.boxes,), lambda: box_iou(stack.boxes, same.boxes))
    overlaps = cache.get(f"overlaps {stack.settings['places']}", (), (stack.places,), lambda: _overlaps(same, stack))
    masked = cache.get("masked", (), (stack.mask_cells, overlaps), lambda: _masked(stack, overlaps))
    return np.concatenate([boxed[:, None], masked, points], axis=1)


def grounded(same: SamplesOfGrid, number: int, plan: AuditPlan, own: OwnHeads) -> GroundedStack:
    """By the choice of that number."""
    g, cache = plan.choices[number].grounding, same.cache
    factor = _factor(g)
    taken = lambda: _take(same, _places(same, number, plan, own), plan, factor)  # noqa: E731
    maps, sinks = cache.get("maps", (plan.same_heads[number], factor), (), taken)
    return ground_stack(maps, same.geometries, g, sinks, cache)


def _places(same: SamplesOfGrid, number: int, plan: AuditPlan, own: OwnHeads) -> Int[np.ndarray, "n head"]:
    """Where each sample's heads stand among its maps; -1 for those that it has fewer than others."""
    choice = plan.choices[number]
    if not _is_greedy(choice):
        heads = plan.heads.get(head_key(choice), ())
        return np.tile([plan.fixed.index(head) for head in heads] or [-1], (len(same.samples), 1))
    ranking = plan.same_heads[number][0]
    known = same.cache.get(f"places {ranking}", (), (), lambda: _own_places(same, own.get(ranking, {})))
    return known[:, : choice.k]


def _own_places(same: SamplesOfGrid, own: Mapping[str, Sequence[HeadIndex]]) -> Int[np.ndarray, "n head"]:
    found = np.full((len(same.samples), max(1, max(map(len, own.values()), default=0))), -1)
    for row, sample, places in zip(found, same.samples, same.places, strict=True):
        best = own.get(sample.sample_id, ())
        row[: len(best)] = [places[head] for head in best]
    return found


def _take(
    same: SamplesOfGrid, places: Int[np.ndarray, "n head"], plan: AuditPlan, factor: float | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """-> (maps [sample, head, row, col], the same of the sinks where they are removed).

    Zeros stand for what cannot be grounded (no head, NaN) and for the heads that a sample has fewer than others.
    """
    at = np.arange(len(places))[:, None], places
    maps = same.maps[at]
    maps[~same.finite[at].all(axis=1)] = 0
    if factor is None or factor not in plan.sinks:
        return maps, None
    cells = same.cache.get(f"sinks {factor}", (), (), lambda: same.sinks(plan.sinks[factor]))
    return maps, cells[at]


def _masked(stack: GroundedStack, overlaps: Sequence["Overlap"]) -> Float[np.ndarray, "n 2"]:
    """Intersection and union of the masks."""
    result = np.empty((len(stack.fused), 2))
    for place, cells, overlap in zip(stack.places, stack.mask_cells, overlaps, strict=True):
        result[place.at] = np.stack(overlap.intersection_union(cells), axis=1)
    return result


def _overlaps(same: SamplesOfGrid, stack: GroundedStack) -> list["Overlap"]:
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
        edges = {geometry: geometry.edges() for geometry in set(geometries)}
        # Several expressions mean one object.
        keys = [(str(sample.mask["counts"]), geometry) for sample, geometry in zip(samples, geometries, strict=True)]
        masks = {key: sample.mask for key, sample in zip(keys, samples, strict=True)}
        counts = {key: _counts(coco.decode(mask), *edges[key[1]]) for key, mask in masks.items()}
        inside = [counts[key] for key in keys]
        pixels = [np.outer(*map(np.diff, edges[geometry])) for geometry in geometries]
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
    # Sums from the corner, [height + 1, width + 1]; run-length code is decoded by columns.
    corners = cv2.integral(np.ascontiguousarray(mask.T)).T[np.ix_(rows, cols)]
    return np.diff(np.diff(corners, axis=0), axis=1)
