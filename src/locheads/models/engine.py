"""Settings of the attention pass: where and how the model runs, and what the store keeps of it."""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from locheads.settings import Count, Text, require, settings

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


class DeviceMap(StrEnum):
    """How package accelerate spreads the layers over all devices (its names)."""

    auto = "auto"
    balanced = "balanced"
    sequential = "sequential"


ALL_MAPS = "all"


@settings("engine")
class EngineConfig:
    """Where and how the model runs. Changes speed, not results, except `quantization`."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    device_map: DeviceMap | None = None
    """Spreads the layers over all devices (package accelerate); null: `device`."""
    quantization: Quantization = Quantization.none
    attention: RestAttention = RestAttention.sdpa
    threads: Annotated[int | None, Field(ge=1, le=1024)] = None
    """CPU threads of torch; null leaves torch's choice."""
    token_budget: Count | None = None
    """Tokens of one forward pass over several images, padding included; a query token counts 24 more, for its rows.
    null: 16,384 on CUDA; one image at a time on a CPU, where more is no faster. Halved by itself when memory runs
    out."""
    workers: Annotated[int, Field(ge=0, le=1024)] = 2
    """Threads that decode and preprocess images while the model runs, and as many that pack what it found and work out
    the numbers of the heads; 0 does both in between."""
    processes: Annotated[int | None, Field(ge=1, le=1024)] = None
    """Processes that ground the split and run the audit; null: as many as there are cores, 8 at most, and fewer where
    that is quicker. They change no result."""
    maps: Text = ALL_MAPS
    """Which attention maps the store keeps. "all": of every head, for every ablation without the model; 1.2 MB per
    expression of LLaVA-1.5-7B. "top N" (such as "top 20"): of the N most frequent heads of discovery and those that
    the baselines need, beside the numbers of all heads; some 80 KB. A published head set, the heads.json of a run,
    or a folder with one: of its heads; the layers beyond them neither run nor load. A map that is missing later is
    computed then."""
    shard_images: Count = 32
    """Images per file of the attention store, fewer where it would exceed 48 MiB: what a killed run loses at most."""
    other_versions: OtherVersions = OtherVersions.recompute

    def __post_init__(self) -> None:
        require(
            (
                not self.maps.lower().startswith("top") or top_heads_kept(self.maps) > 0,
                f'engine.maps={self.maps} is not understood: write "all", "top 20" or the path of a heads.json.',
            )
        )


def top_heads_kept(maps: str) -> int:
    """N of engine.maps="top N"; 0 for its other forms."""
    match = re.fullmatch(r"top ([1-9]\d*)", maps)
    return int(match[1]) if match else 0
