"""From the chosen heads' maps to boxes and pseudo-masks in the original images (paper, grounding steps 1 to 3).

The one path, for stacks of samples whose maps have the same rows and columns; a single sample is a stack of one. Rows
of a stack never change each other's result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan
from typing import Any, TypeVar, assert_never

import numpy as np
from jaxtyping import Bool, Float, Int

from locheads.geometry import Geometry
from locheads.grounding.boxes import Frames, cell_boxes
from locheads.grounding.components import Components, choose
from locheads.grounding.config import BoxRule, Component, GroundingConfig, MaskRule, Resolution, StandOut
from locheads.grounding.fuse import binarise, normalise, smooth, without_sinks
from locheads.grounding.lattice import framed, lattice, upsample
from locheads.grounding.run_lengths import mask_codes
from locheads.types import Box, Grounding

T = TypeVar("T")

NOT_FINITE = "an attention map holds NaN or infinity"


class StepCache:
    """The last value of every step, for stacks that are grounded several times with other settings.

    A step is worked out again only where its settings differ or its inputs are not the very same arrays.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[Any, tuple[Any, ...], Any]] = {}

    def get(self, step: str, settings: Any, inputs: tuple[Any, ...], make: Callable[[], T]) -> T:
        known = self._last.get(step)
        if known is None or known[0] != settings or any(a is not b for a, b in zip(known[1], inputs, strict=True)):
            known = self._last[step] = (settings, inputs, make())
        value: T = known[2]
        return value


def step_settings(config: GroundingConfig) -> dict[str, tuple[Any, ...]]:
    """Per step, in their order, the settings that it reads itself; those without effect are left out. The first stands
    before `ground_stack`: see `contrast.read_maps`."""
    on_grid, on_input = config.resolution == Resolution.grid, config.resolution == Resolution.input
    smooths = config.sigma > 0 and config.kernel > 1
    return {
        "contrasted": (config.contrast.value,),
        "prepared": (config.sinks.value, config.normalise.value),
        "smoothed": (*config.smoothing.values(),) if smooths else (),
        "places": (config.resolution.value, config.input_patch if on_input else 0, config.padding.value),
        "fields": () if on_grid else (config.upsampling.value,),
        "components": (config.threshold.value, config.threshold_level()),
        "chosen": (config.component.value,),
        "boxes": (
            config.box.value, config.mass if config.box == BoxRule.mass_quantiles else 0, config.clamp,
            config.rounding.value,
        ),
        "mask_cells": (config.mask.value,),
        "candidates": (
            config.candidate_score.value, config.stand_out.value,
            config.stand_out_share if config.stand_out == StandOut.share else 0,
        ),
    }  # fmt: skip


@dataclass(frozen=True)
class LatticeGroup:
    """The maps of a stack whose lattices have the same rows and columns."""

    at: Int[np.ndarray, "m"]
    """Their places in the stack."""
    lattices: tuple[Geometry, ...]
    """Where the threshold applies, per map."""
    frames: Frames


@dataclass(frozen=True)
class GroundedStack:
    """Samples grounded step by step; each step is worked out when it is first asked for.

    Lists have one entry per place: all maps together, or those of each image where the lattice is that of the image.
    """

    fused: Float[np.ndarray, "n row col"]
    """On the patch grid."""
    geometries: Sequence[Geometry]
    """Of each sample."""
    config: GroundingConfig
    maps: Float[np.ndarray, "n head row col"] | None = None
    """As they came; None where only the fused maps are known."""
    smoothed: Float[np.ndarray, "n head row col"] | None = None
    cache: StepCache = field(default_factory=StepCache)

    @cached_property
    def settings(self) -> dict[str, tuple[Any, ...]]:
        """See `step_settings`."""
        return step_settings(self.config)

    @cached_property
    def places(self) -> list[LatticeGroup]:
        # Kept for every lattice, not only for the last: it depends on no other step.
        step = f"places {self.settings['places']}"
        return self.cache.get(step, (), (self.geometries,), lambda: _places(self.geometries, self.config))

    @cached_property
    def fields(self) -> list[Float[np.ndarray, "m y x"]]:
        """The fused maps where the threshold applies. Raises ValueError for a map that holds NaN or infinity."""
        return self._step("fields", (self.fused, self.places), self._fields)

    @cached_property
    def components(self) -> list[Components]:
        g = self.config
        make = lambda: [Components.of(binarise(f, g.threshold, g.threshold_level())) for f in self.fields]  # noqa: E731
        return self._step("components", (self.fields,), make)

    @cached_property
    def chosen(self) -> list[Bool[np.ndarray, "m y x"]]:
        """The cells that make the box."""
        pairs = zip(self.components, self.fields, strict=True)
        return self._step("chosen", (self.components,), lambda: [choose(c, f, self.config.component) for c, f in pairs])

    @cached_property
    def boxes(self) -> Float[np.ndarray, "n 4"]:
        """xyxy in pixels; NaN without cells, or where all of them lie on padding bars."""
        return self._step("boxes", (self.chosen,), self._boxes)

    def component_boxes(self) -> Float[np.ndarray, "component 4"] | None:
        """What `boxes` holds of a map if this component of it is chosen; in the components' order. None where a box is
        not that of one component, or where the maps have several lattices."""
        whole = self.config.component != Component.all_cells and self.config.box in (BoxRule.hull, BoxRule.component)
        if not whole or len(set(self.geometries)) > 1:
            return None
        components, frames = self.components[0], Frames.of(self.places[0].lattices[:1])
        ends = components.boxes.astype(np.float64)
        ends[:, 2:] += ends[:, :2]
        return frames.pixels(ends, self.config)

    @cached_property
    def mask_cells(self) -> list[Bool[np.ndarray, "m y x"]]:
        """The cells of the pseudo-mask."""
        match self.config.mask:
            case MaskRule.all_cells:
                return self._step("mask_cells", (self.components,), lambda: [c.labels > 0 for c in self.components])
            case MaskRule.box_cells:
                return self.chosen
            case _:
                assert_never(self.config.mask)

    def box(self, i: int = 0) -> Box | None:
        """Of one sample; None where there is none."""
        x0, y0, x1, y1 = self.boxes[i].tolist()
        return None if any(map(isnan, (x0, y0, x1, y1))) else (x0, y0, x1, y1)

    def mask(self, i: int = 0) -> Bool[np.ndarray, "height width"]:
        """The pseudo-mask of one sample in pixels of its image."""
        for place, cells in zip(self.places, self.mask_cells, strict=True):
            for row in np.flatnonzero(place.at == i):
                return place.lattices[row].upsample(cells[row])
        raise IndexError(f"the stack has no sample {i}")

    def mask_codes(self) -> list[str]:
        """The pseudo-mask of every sample in COCO's run-length code, without its size."""
        codes = [""] * len(self.fused)
        for place, cells in zip(self.places, self.mask_cells, strict=True):
            for lattice_ in dict.fromkeys(place.lattices):
                rows = [row for row, own in enumerate(place.lattices) if own == lattice_]
                for row, code in zip(rows, mask_codes(cells[rows], lattice_), strict=True):
                    codes[place.at[row]] = code
        return codes

    def _step(self, name: str, inputs: tuple[Any, ...], make: Callable[[], T]) -> T:
        return self.cache.get(name, self.settings[name], inputs, make)

    def _fields(self) -> list[np.ndarray]:
        if self.maps is not None and not np.isfinite(self.maps).all():
            raise ValueError(NOT_FINITE)
        frames = [framed(self.geometries[place.at[0]], self.config) for place in self.places]
        pairs = zip(self.places, frames, strict=True)
        return [upsample(self.fused[place.at], frame, self.config) for place, frame in pairs]

    def _boxes(self) -> np.ndarray:
        boxes = np.empty((len(self.fused), 4))
        for place, cells, values in zip(self.places, self.chosen, self.fields, strict=True):
            boxes[place.at] = place.frames.pixels(cell_boxes(cells, values, self.config), self.config)
        return boxes


def ground_stack(
    maps: Float[np.ndarray, "n head row col"],
    geometries: Sequence[Geometry],
    config: GroundingConfig,
    sinks: Bool[np.ndarray, "*#n head row col"] | None = None,
    cache: StepCache | None = None,
) -> GroundedStack:
    """Grounds every sample of a stack with the maps of its own heads; `geometries`: of each sample.

    `sinks`: cells that config.sinks=mean_map sets to zero. `cache`: of an earlier call with the same `geometries`, so
    that steps whose settings and inputs are the same are not repeated.
    """
    cache, settings = cache or StepCache(), step_settings(config)
    prepared = cache.get(
        "prepared", settings["prepared"], (maps, sinks), lambda: normalise(without_sinks(maps, config, sinks), config)
    )
    smoothed = cache.get("smoothed", settings["smoothed"], (prepared,), lambda: smooth(prepared, config))
    fused = cache.get("fused", (), (smoothed,), lambda: smoothed.sum(axis=-3))
    return GroundedStack(fused, geometries, config, maps, smoothed, cache)


def ground_maps(
    maps: Float[np.ndarray, "head row col"],
    geometry: Geometry,
    config: GroundingConfig,
    sinks: Bool[np.ndarray, "head row col"] | None = None,
) -> Grounding:
    """Grounds a single sample.

    Raises:
        ValueError: a map holds NaN or infinity: nothing can be grounded on it.
    """
    stack = ground_stack(maps[None], (geometry,), config, sinks)
    return Grounding(stack.box(), stack.mask(), stack.fused[0], geometry)


def _places(geometries: Sequence[Geometry], config: GroundingConfig) -> list[LatticeGroup]:
    # Most are one object: hashing its values every time would take longer than all the rest.
    distinct = {id(geometry): geometry for geometry in geometries}
    lattices = {key: lattice(framed(geometry, config), config) for key, geometry in distinct.items()}
    together: dict[Geometry | None, list[int]] = {}
    for i, geometry in enumerate(geometries):
        together.setdefault(geometry if config.resolution == Resolution.image else None, []).append(i)
    own = [tuple(lattices[id(geometries[i])] for i in at) for at in together.values()]
    return [
        LatticeGroup(np.array(at), where, Frames.of(where)) for at, where in zip(together.values(), own, strict=True)
    ]
