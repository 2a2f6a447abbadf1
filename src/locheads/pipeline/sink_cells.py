"""What grounding.sinks=mean_map removes: from the mean maps of the discovery samples, which are added up once."""

from collections.abc import Iterable

import numpy as np

from locheads.grounding.sinks import Grid, SinkCells, Totals, sinks_of, total_maps
from locheads.pipeline.processes import Each, in_parts
from locheads.pipeline.setup import Setup
from locheads.store.attention_store import AttentionStore
from locheads.store.key import code_digest
from locheads.types import ImageGroup


def sink_cells(run: Setup, factors: Iterable[float], each: Each) -> dict[float, SinkCells]:
    """By grounding.sink_factor; of the discovery samples, so that nothing of the evaluated split takes part."""
    factors, groups = sorted(set(factors)), run.inputs.discovery
    if not factors:
        return {}

    def add_up() -> dict[str, np.ndarray]:
        totals: dict[str, np.ndarray] = {}
        for part in in_parts(each, _totals, groups, "mean maps"):
            for (rows, cols), total in part.items():
                name = f"{rows} {cols}"
                totals[name] = totals[name] + total if name in totals else total
        return totals

    kept = run.store.kept("total_maps", groups, code_digest(total_maps.__module__), add_up)
    totals = {_grid(name): total for name, total in kept.items()}
    return {factor: sinks_of(totals, factor) for factor in factors}


def _totals(store: AttentionStore, groups: list[ImageGroup]) -> Totals:
    return total_maps(store.read(groups))


def _grid(name: str) -> Grid:
    rows, cols = name.split()
    return int(rows), int(cols)
