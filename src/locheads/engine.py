"""Settings of the attention pass: where and how the model runs, and what the store keeps of it."""

import re
from dataclasses import dataclass
from enum import StrEnum

from locheads.errors import Rule

# Named by function, because a name that a user writes may not begin with a digit in a class.
Quantization = StrEnum("Quantization", {"none": "none", "8bit": "8bit", "4bit": "4bit"})
"""Weights in fewer bits, by bitsandbytes on CUDA. Smaller, and no longer exact."""


class RestAttention(StrEnum):
    """Attention of everything but the text decoder, whose rows are always taken beside sdpa."""

    sdpa = "sdpa"
    flash = "flash_attention_2"
    """Needs the package flash-attn, a GPU, and 16-bit weights."""


class OtherVersions(StrEnum):
    """What becomes of maps that are stored for the same question, but made with other versions of torch,
    transformers, pillow, ..., another image processor, or other code of the attention pass."""

    recompute = "recompute"
    """The model is asked again, into a store of its own; a warning says what differs."""
    take = "take"
    """They are read as they are, where nothing is stored of the versions that are here; provenance.json names theirs.
    They must hold all that the run needs."""


ALL_MAPS = "all"


@dataclass
class EngineConfig:
    """Where and how the model runs. Changes speed, not results, except `quantization`."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    device_map: str | None = None
    """"auto", "balanced" or "sequential" spreads the layers over all devices (package accelerate); null: `device`."""
    quantization: Quantization = Quantization.none
    attention: RestAttention = RestAttention.sdpa
    threads: int | None = None
    """CPU threads of torch; null leaves torch's choice."""
    token_budget: int | None = None
    """Tokens of one forward pass over several pictures, padding included. null: 16,384 on CUDA; one picture at a time
    on a CPU, where more is no faster. Halved by itself when memory runs out."""
    workers: int = 2
    """Threads that decode and preprocess pictures while the model runs; 0 does it in between."""
    maps: str = ALL_MAPS
    """Which attention maps the store keeps. "all": of every head, for every ablation without the model; 1.2 MB per
    expression of LLaVA-1.5-7B. "top N" (such as "top 20"): of the N most frequent heads of discovery and those that
    the baselines need, beside the numbers of all heads; some 80 KB. A published head set, the heads.json of a run,
    or a folder with one: of its heads; the layers beyond them neither run nor load. A map that is missing later is
    computed then."""
    shard_images: int = 32
    """Pictures per file of the attention store: what a killed run loses at most."""
    other_versions: OtherVersions = OtherVersions.recompute


def top_heads_kept(maps: str) -> int:
    """N of engine.maps="top N"; 0 for its other forms."""
    match = re.fullmatch(r"top ([1-9]\d*)", maps)
    return int(match[1]) if match else 0


def engine_rules(engine: EngineConfig) -> list[Rule]:
    """What types cannot say."""
    at_least_one = {
        "engine.shard_images": engine.shard_images,
        "engine.threads": 1 if engine.threads is None else engine.threads,
        "engine.token_budget": 1 if engine.token_budget is None else engine.token_budget,
    }
    rules = [(value >= 1, f"{key} must be at least 1, not {value}.") for key, value in at_least_one.items()]
    return [
        *rules,
        (engine.workers >= 0, f"engine.workers must not be negative, not {engine.workers}."),
        (
            engine.device_map in (None, "auto", "balanced", "sequential"),
            f"engine.device_map={engine.device_map} is unknown: use auto, balanced, sequential or null.",
        ),
        (
            not engine.maps.lower().startswith("top") or top_heads_kept(engine.maps) > 0,
            f'engine.maps={engine.maps} is not understood: write "all", "top 20" or the path of a heads.json.',
        ),
    ]
