"""What the model costs on this machine: measured on a few expressions, worked out for a data set."""

import time

from locheads.errors import ModelError
from locheads.models.attend import NO_MEMORY, attend_prepared
from locheads.models.batching import Budget
from locheads.models.config import PromptConfig
from locheads.models.engine import EngineConfig
from locheads.models.findings import Finding, Outcome
from locheads.models.load import Lvlm
from locheads.models.painted import noise
from locheads.pipeline.timing import Stopwatch, memory_used
from locheads.text import duration

VAL_EXPRESSIONS, VAL_IMAGES = 10_834, 1_500
"""RefCOCO val."""
DISCOVERY = 5 * 1_000
"""Expressions of discovery, nearly each of another image."""
TIMES = 3
"""The shortest of so many counts: what else ran meanwhile is not the model's."""
IMAGES = 8
"""In one call, of which as many share a forward pass as the budget admits."""


def check_cost(lvlm: Lvlm, prompt: PromptConfig, engine: EngineConfig) -> list[Finding]:
    """Time and memory per expression, all heads of all layers, and what RefCOCO takes.

    Raises:
        DataError, ConfigError, ModelError: as `FamilyAdapter.prepare`, or the memory does not suffice.
    """
    per_image = round(VAL_EXPRESSIONS / VAL_IMAGES)
    Stopwatch(lvlm.device)  # from here on the memory counts
    many, one = (_seconds(lvlm, prompt, engine, n) for n in (per_image, 1))
    used = memory_used(lvlm.device)
    val, discovery = many * VAL_EXPRESSIONS / per_image, one * DISCOVERY
    text = (
        f"{1000 * many / per_image:.0f} ms per expression, {per_image} to an image, and {1000 * one:.0f} ms of one "
        f"alone; {used['peak_bytes'] / 2**30:.1f} GiB of the {used['memory_of']}. The model on RefCOCO: val "
        f"({VAL_EXPRESSIONS:,}) {duration(val)}, discovery (5 x 1,000) {duration(discovery)}"
    )
    return [Finding("cost", Outcome.passed, text)]


def _seconds(lvlm: Lvlm, prompt: PromptConfig, engine: EngineConfig, expressions: int) -> float:
    """Of one image with so many expressions, their maps on the CPU; the first call, which warms up, is left out."""
    prepared = lvlm.adapter.prepare(noise(640, 480, seed=0), ["the red circle on the left"] * expressions, prompt)
    budget = Budget.of(engine.token_budget, lvlm.device)
    images = IMAGES if lvlm.device.type != "cpu" else 1
    times = []
    for _ in range(TIMES + 1):
        start = time.perf_counter()
        for rows in attend_prepared(lvlm, [prepared] * images, budget):
            for one in rows:
                if one is None:
                    raise ModelError(NO_MEMORY)
                one.maps()
        times.append(time.perf_counter() - start)
    return min(times[1:]) / images
