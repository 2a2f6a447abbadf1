"""The attention pass, step by step, beside how it is done today: in one run, the steps taking turns."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from rich.progress import track

from locheads.bench.meters import machine, matmul_rate, peak_extra_mib, seconds, spread
from locheads.bench.shapes import Shape, build, image, packed_flop
from locheads.models import capture
from locheads.models.adapters import PreparedInput, Sharing
from locheads.models.attend import attend_prepared
from locheads.models.batching import Budget
from locheads.models.load import Lvlm

TODAY = "today: eager, output_attentions, full depth, one by one"
ROWS = "sdpa + rows of the query"
EXIT = "+ early exit"
PACKED = "+ packed: one pass per image"
BATCHED = "+ several images per pass"
DISCOVERY = "discovery: packed, all layers and heads"
DISCOVERY_BATCHED = "discovery, several images per pass"

VAL_EXPRESSIONS, VAL_IMAGES = 10_834, 1_500
"""RefCOCO val."""


@dataclass(frozen=True)
class Step:
    """One way to get the maps."""

    name: str
    run: Callable[[], list[np.ndarray]]
    """-> maps of the needed heads of the first image's expressions, [head, row, col] each; as many as it asks."""
    expressions: int
    """How many one call answers."""


class Bench:
    """A model of one shape, and the steps on it.

    On a CPU all of them run with glibc's own habits. `load_lvlm` changes those (`keep_freed_memory`), for good and for
    the whole process, so that today's way could not take turns with it: the engine is quicker than its steps here.
    """

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape, self.device = shape, device
        self.model = build(shape, device)
        self.images = [image(shape, seed) for seed in range(shape.images)]
        some = tuple(range(shape.singles))
        first = self.images[0]
        self.few = replace(
            first, suffixes=tuple(first.suffixes[i] for i in some), spans=tuple(first.spans[i] for i in some)
        )

    def steps(self) -> list[Step]:
        """In the order of the table."""
        shape, needed = self.shape, self.shape.needed_heads()
        few, all_ = shape.singles, shape.suffixes
        steps = [
            Step(TODAY, self.today, few),
            Step(ROWS, lambda: self._engine([self.few], Sharing.plain, None), few),
            Step(EXIT, lambda: self._engine([self.few], Sharing.plain, needed), few),
            Step(PACKED, lambda: self._engine(self.images[:1], Sharing.packed, needed), all_),
            Step(DISCOVERY, lambda: self._engine(self.images[:1], Sharing.packed, None), all_),
        ]
        if shape.images > 1:
            many = all_ * shape.images
            steps.insert(4, Step(BATCHED, lambda: self._engine(self.images, Sharing.packed, needed), many))
            steps.append(Step(DISCOVERY_BATCHED, lambda: self._engine(self.images, Sharing.packed, None), many))
        return steps

    @torch.inference_mode()
    def today(self) -> list[np.ndarray]:
        """As the released code does it: the whole attention of every layer is kept, and a row of it read."""
        self.model.set_attn_implementation("eager")
        found = []
        for suffix in self.few.suffixes:
            output = self.model(
                input_ids=torch.cat([self.few.prefix, suffix])[None].to(self.device),
                pixel_values=self._pixels(self.few),
                output_attentions=True,
            )
            rows = [output.attentions[h.layer][0, h.head, -1] for h in self.shape.needed_heads()]
            cells = torch.stack(rows)[:, self.few.image_tokens.to(self.device)]
            found.append(cells.float().cpu().numpy().reshape(-1, self.shape.grid, self.shape.grid))
        return found

    def _engine(self, images: list[PreparedInput], sharing: Sharing, heads: Any) -> list[np.ndarray]:
        capture.install(self.model)
        adapter: Any = SimpleNamespace(sharing=sharing)
        lvlm = Lvlm(self.model, adapter, self.device)
        budget = Budget(1, 1) if sharing == Sharing.plain or len(images) == 1 else Budget(10**9)
        maps = [one for one in attend_prepared(lvlm, images, budget, heads)[0] if one is not None]
        if heads is None:
            return [one[[h.layer for h in needed], [h.head for h in needed]] for one in maps for needed in [self.heads]]
        return maps

    @property
    def heads(self) -> Any:
        """The heads that are compared."""
        return self.shape.needed_heads()

    def _pixels(self, prepared: PreparedInput) -> torch.Tensor:
        return prepared.tensors["pixel_values"].to(self.device, self.model.dtype)


def benchmark(shape: Shape, device: torch.device, rounds: int) -> dict[str, Any]:
    """Everything that is measured, as plain values; times in milliseconds per expression."""
    where = machine(device)
    bench = Bench(shape, device)
    steps = bench.steps()
    # The first call of each warms it up, is compared with today's, and its memory measured.
    found: dict[str, list[np.ndarray]] = {}
    memory = {step.name: peak_extra_mib(_kept(step, found), device) for step in steps}
    times: dict[str, list[float]] = {step.name: [] for step in steps}
    rates = []
    tokens = (shape.prefix + shape.suffixes * shape.suffix_length) * shape.images
    for _ in track(range(rounds), "rounds", transient=True):
        for step in steps:
            times[step.name].append(1000 * seconds(step.run, device) / step.expressions)
        rates.append(matmul_rate(tokens, shape.hidden, shape.intermediate, device, bench.model.dtype))
    rate = float(np.median(rates))
    return {
        "benchmark": "attention",
        "shape": asdict(shape),
        "machine": where,
        "rounds": rounds,
        "unit": "ms per expression",
        "steps": [_record(step, times, memory, found) for step in steps],
        "floor": _floor(shape, rate, times),
        **_extrapolated(shape, times, rate),
    }


def _kept(step: Step, found: dict[str, list[np.ndarray]]) -> Callable[[], None]:
    """Runs the step and keeps what it found."""

    def run() -> None:
        found[step.name] = step.run()

    return run


def _record(step: Step, times: dict[str, list[float]], memory: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    median = float(np.median(times[step.name]))
    today, own = found[TODAY], found[step.name]
    return {
        "name": step.name,
        "time": spread(times[step.name]),
        "times_faster": float(np.median(times[TODAY])) / median,
        "expressions_per_call": step.expressions,
        "peak_extra_mib": memory[step.name],
        "share_of_todays_memory": memory[step.name] / memory[TODAY] if memory[step.name] and memory[TODAY] else None,
        "largest_difference_to_today": max(
            float(np.abs(one - other).max()) for one, other in zip(today, own, strict=False)
        ),
    }


def _floor(shape: Shape, rate: float, times: dict[str, list[float]]) -> dict[str, Any]:
    """What the packed form's arithmetic takes at the rate of this machine's own large matrix products."""
    floor = 1000 * packed_flop(shape) / rate / shape.suffixes
    best = min(float(np.median(times[name])) for name in (PACKED, BATCHED) if name in times)
    return {"ms_per_expression": floor, "matmul_flop_per_second": rate, "best_over_floor": best / floor}


def _extrapolated(shape: Shape, times: dict[str, list[float]], rate: float) -> dict[str, Any]:
    if shape.name != "llava_1_5_7b":
        return {}
    flop = packed_flop(shape) * VAL_EXPRESSIONS / shape.suffixes
    return {
        "extrapolated": {
            "what": f"RefCOCO val: {VAL_EXPRESSIONS} expressions on {VAL_IMAGES} images, forward passes only; "
            "extrapolated from the time per expression, not run",
            "seconds": {name: float(np.median(values)) * VAL_EXPRESSIONS / 1000 for name, values in times.items()},
            "floor_seconds": flop / rate,
        }
    }
