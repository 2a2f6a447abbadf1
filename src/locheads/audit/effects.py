"""Some images' samples under every choice: each step once for all choices that share it, all samples at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, assert_never

import numpy as np
from jaxtyping import Float
from pycocotools import mask as coco

from locheads.audit.choice_grid import Choice
from locheads.audit.config import AUDITED, COLUMNS, TRUTH
from locheads.audit.stacked_truth import Overlap
from locheads.discovery.config import SelectionKind
from locheads.discovery.frequencies import greedy_heads
from locheads.discovery.scores import score
from locheads.evaluation.metrics import box_iou, inside
from locheads.geometry import Geometry
from locheads.grounding.boxes import Frames, cell_boxes
from locheads.grounding.components import Components, choose
from locheads.grounding.config import GroundingConfig, MaskRule, Resolution, Sinks
from locheads.grounding.fuse import binarise, normalise, smooth, without_sinks
from locheads.grounding.lattice import framed, lattice, upsample
from locheads.grounding.sinks import SinkCells
from locheads.types import Attention, Discovery, HeadIndex, HeadScores, ImageGroup, Sample

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
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
class _Stack:
    """Samples whose maps have the same rows and columns."""

    samples: list[Sample] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    """Their places in the chunk."""
    geometries: list[Geometry] = field(default_factory=list)
    attentions: list[tuple[Attention, int]] = field(default_factory=list)


@dataclass(frozen=True)
class _Part:
    """Samples on one lattice."""

    at: np.ndarray
    """Their places in the stack."""
    field: np.ndarray
    frames: Frames
    overlap: Overlap


class _Memo:
    """Remembers the last value of every step: choices come sorted, so equal steps follow each other."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Any, Any]] = {}

    def get(self, step: str, key: Any, make: Callable[[], T]) -> T:
        known = self._last.get(step)
        if known is None or known[0] != key:
            known = self._last[step] = (key, make())
        return known[1]


def measure(
    groups: Sequence[ImageGroup], attentions: Iterable[Attention], plan: Plan
) -> Float[np.ndarray, "choice image metric 2"]:
    """Numerator and denominator of each of AUDITED, per choice and image.

    A sample without attention, without heads or with NaN counts as a miss.
    """
    samples = [(group, sample) for group in groups for sample in group.samples]
    place = {sample.sample_id: i for i, (_, sample) in enumerate(samples)}
    image = np.repeat(np.arange(len(groups)), [len(group.samples) for group in groups])
    stacks = _stacks(attentions, place, samples)
    scored = _greedy(stacks.values(), plan)
    areas = np.array([int(coco.area(sample.mask)) for _, sample in samples])
    boxes = np.array([sample.box for _, sample in samples], dtype=np.float64)
    sizes = [(group.width, group.height) for group, _ in samples]
    truth = dict(zip(TRUTH, np.column_stack([boxes, sizes]).T, strict=True))
    result = np.empty((len(plan.choices), len(groups), len(AUDITED), 2))
    memos = {grid: _Memo() for grid in stacks}
    for number in sorted(range(len(plan.choices)), key=lambda i: _order(plan.choices[i], plan)):
        rows = _misses(areas)
        for grid, stack in stacks.items():
            rows[stack.rows] = _rows(stack, plan.choices[number], plan, scored, memos[grid])
        table = truth | dict(zip(COLUMNS, rows.T, strict=True))
        table["pointed"] = inside(rows[:, -2:], boxes)
        for i, metric in enumerate(AUDITED):
            for j, part in enumerate(metric.parts(table)):
                result[number, :, i, j] = np.bincount(image, weights=part, minlength=len(groups))
    return result


def _stacks(
    attentions: Iterable[Attention], place: Mapping[str, int], samples: Sequence[tuple[ImageGroup, Sample]]
) -> dict[tuple[int, int], _Stack]:
    stacks: dict[tuple[int, int], _Stack] = {}
    for attention in attentions:
        stack = stacks.setdefault((attention.geometry.rows, attention.geometry.cols), _Stack())
        for row, sample_id in enumerate(attention.sample_ids):
            stack.rows.append(place[sample_id])
            stack.samples.append(samples[place[sample_id]][1])
            stack.geometries.append(attention.geometry)
            stack.attentions.append((attention, row))
    return stacks


def _misses(areas: np.ndarray) -> Float[np.ndarray, "sample column"]:
    rows = np.zeros((len(areas), len(COLUMNS)))
    rows[:, COLUMNS.index("union")] = areas
    rows[:, -2:] = np.nan  # no peak
    return rows


def _greedy(stacks: Iterable[_Stack], plan: Plan) -> dict[str, dict[str, list[HeadIndex]]]:
    """Per `head_key` of greedy choices each sample's own heads."""
    wanted = {head_key(c): c for c in plan.choices if c.selection.kind == SelectionKind.greedy}
    found: dict[str, dict[str, list[HeadIndex]]] = {key: {} for key in wanted}
    images = {id(a): a for stack in stacks for a, _ in stack.attentions} if wanted else {}
    for attention in images.values():
        known: dict[tuple[str, ...], HeadScores] = {}
        for key, choice in wanted.items():
            criterion = choice.criterion
            entropy = criterion.numbers_key()
            known[entropy] = known.get(entropy) or score(attention, criterion)
            if criterion_key(choice) in plan.discoveries:
                discovery = plan.discoveries[criterion_key(choice)]
                found[key] |= greedy_heads(known[entropy], discovery, choice.k, criterion)
    return found


def _same_heads(choice: Choice, plan: Plan) -> str:
    """Equal for choices that ground with the same heads, whatever led to them."""
    if choice.selection.kind == SelectionKind.greedy:
        # A sample's own best heads do not depend on how many vote in discovery.
        return head_key(replace(choice, criterion=replace(choice.criterion, candidates=1)))
    return " ".join(map(str, plan.heads.get(head_key(choice), ())))


def _order(choice: Choice, plan: Plan) -> str:
    """Sorts choices so that those that share early steps are neighbours."""
    return repr((_same_heads(choice, plan), *(key for _, key in _keys(choice.grounding))))


def _keys(g: GroundingConfig) -> list[tuple[str, Any]]:
    """Per step what its result depends on, beyond the steps before it; settings without effect left out."""
    smoothing = (g.kernel, g.sigma, g.border.value) if g.sigma > 0 and g.kernel > 1 else ()
    input_patch = g.input_patch if g.resolution == Resolution.input else 0
    upsampling = "" if g.resolution == Resolution.grid else g.upsampling.value
    return [
        ("maps", (g.sinks.value, g.sink_factor if g.sinks == Sinks.mean_map else 0, g.normalise.value)),
        ("fused", smoothing),
        ("parts", (g.resolution.value, input_patch, g.padding.value, upsampling)),
        ("components", (g.threshold.value, g.threshold_level())),
        ("chosen", g.component.value),
        ("boxes", (g.box.value, g.mass if g.box.value == "mass_quantiles" else 0, g.clamp, g.rounding.value)),
    ]


def _rows(
    stack: _Stack, choice: Choice, plan: Plan, scored: Mapping[str, Mapping[str, list[HeadIndex]]], memo: _Memo
) -> Float[np.ndarray, "sample column"]:
    """COLUMNS of each sample of the stack."""
    g, keys = choice.grounding, dict(_keys(choice.grounding))
    heads = _same_heads(choice, plan)
    path: list[Any] = [heads]

    def step(name: str, make: Callable[[], T]) -> T:
        if name in keys:
            path.append(keys[name])
        return memo.get(name, tuple(path), make)

    raw, sinks = memo.get(
        "raw",
        (heads, g.sinks.value, g.sink_factor),
        lambda: _take(stack, _heads_of(choice, plan, scored, stack.samples), plan, g),
    )
    maps = step("maps", lambda: normalise(without_sinks(raw, g, sinks), g))
    fused = step("fused", lambda: smooth(maps, g).sum(axis=-3))
    peaks = step("peaks", lambda: _peaks(stack, fused))
    # Kept for every lattice, not only for the last: it depends on no other step.
    places = memo.get(f"places {keys['parts'][:3]}", None, lambda: _places(stack, g))
    parts = step("parts", lambda: _parts(stack, fused, g, places))
    components = step(
        "components", lambda: [Components.of(binarise(p.field, g.threshold, g.threshold_level())) for p in parts]
    )
    chosen = step("chosen", lambda: [choose(c, p.field, g.component) for c, p in zip(components, parts, strict=True)])
    boxed = step("boxes", lambda: _boxed(stack, parts, chosen, g))
    by_mask = [c.labels > 0 for c in components] if g.mask == MaskRule.all_cells else chosen
    masked = memo.get("masks", (tuple(path[:-1]), g.mask.value), lambda: _masked(stack, parts, by_mask))
    return np.concatenate([boxed[:, None], masked, peaks], axis=1)


def _heads_of(
    choice: Choice, plan: Plan, scored: Mapping[str, Mapping[str, list[HeadIndex]]], samples: Sequence[Sample]
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
    stack: _Stack, own: Sequence[tuple[HeadIndex, ...]], plan: Plan, g: GroundingConfig
) -> tuple[np.ndarray, np.ndarray | None]:
    """-> (maps [sample, head, row, col], the same of the sinks where they are removed).

    Zeros stand for what cannot be grounded (no head, NaN) and for the heads that a sample has fewer than others.
    """
    grid = (stack.geometries[0].rows, stack.geometries[0].cols)
    k = max(1, max(map(len, own)))
    maps = np.zeros((len(own), k, *grid), dtype=np.float32)
    cells = np.zeros((len(own), k, *grid), dtype=bool)
    known = plan.sinks.get(g.sink_factor) if g.sinks == Sinks.mean_map else None
    for i, ((attention, row), heads) in enumerate(zip(stack.attentions, own, strict=True)):
        taken = attention.chosen(row, heads) if heads else None
        if taken is None or not np.isfinite(taken).all():
            continue
        maps[i, : len(heads)] = taken
        if known is not None and (found := known.get(grid, heads)) is not None:
            cells[i, : len(heads)] = found
    return maps, cells if known is not None else None


def _peaks(stack: _Stack, fused: Float[np.ndarray, "n row col"]) -> Float[np.ndarray, "n 2"]:
    """Where each map points, as `evaluation.metrics.peak`; NaN for one that points nowhere."""
    flat = fused.reshape(len(fused), -1)
    row, col = np.divmod(flat.argmax(axis=1), fused.shape[2])
    frames = Frames.of(stack.geometries)
    x = (col + 0.5 - frames.offset[:, 0]) / frames.scale[:, 0]
    y = (row + 0.5 - frames.offset[:, 1]) / frames.scale[:, 1]
    return np.where(np.ptp(flat, axis=1, keepdims=True) > 0, np.column_stack([x, y]), np.nan)


def _parts(
    stack: _Stack, fused: np.ndarray, g: GroundingConfig, places: Sequence[tuple[np.ndarray, Frames, Overlap]]
) -> list[_Part]:
    return [
        _Part(at, upsample(fused[at], framed(stack.geometries[at[0]], g), g), frames, overlap)
        for at, frames, overlap in places
    ]


def _places(stack: _Stack, g: GroundingConfig) -> list[tuple[np.ndarray, Frames, Overlap]]:
    """All samples together, or those of each image where the lattice is that of the image."""
    together: dict[Geometry | None, list[int]] = {}
    for i, geometry in enumerate(stack.geometries):
        together.setdefault(geometry if g.resolution == Resolution.image else None, []).append(i)
    lattices = [lattice(framed(geometry, g), g) for geometry in stack.geometries]
    return [
        (
            np.array(at),
            Frames.of([lattices[i] for i in at]),
            Overlap.of([stack.samples[i] for i in at], [lattices[i] for i in at]),
        )
        for at in together.values()
    ]


def _boxed(
    stack: _Stack, parts: Sequence[_Part], chosen: Sequence[np.ndarray], g: GroundingConfig
) -> Float[np.ndarray, "n"]:
    """IoU with the true box."""
    boxes = np.empty((len(stack.samples), 4))
    for part, cells in zip(parts, chosen, strict=True):
        boxes[part.at] = part.frames.pixels(cell_boxes(cells, part.field, g), g)
    return box_iou(boxes, np.array([sample.box for sample in stack.samples]))


def _masked(stack: _Stack, parts: Sequence[_Part], cells: Sequence[np.ndarray]) -> Float[np.ndarray, "n 2"]:
    """Intersection and union of the masks."""
    result = np.empty((len(stack.samples), 2))
    for part, mask in zip(parts, cells, strict=True):
        result[part.at] = np.stack(part.overlap.intersection_union(mask), axis=1)
    return result
