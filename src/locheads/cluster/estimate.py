"""How long a pass will take: an estimate from what was measured, never from a data sheet."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locheads.errors import ConfigError
from locheads.sharding.lease import Record

WHOLE_PASS = "discovery: packed, all layers and heads"
"""The benchmark's step that does what the attend stage does by default."""


@dataclass(frozen=True)
class Rate:
    """Tokens per second of one worker, and where the figure comes from."""

    tokens_per_second: float
    source: str

    def hours(self, tokens: float) -> float:
        """Of one worker, without loading the model."""
        return tokens / self.tokens_per_second / 3600


def measured(records: Sequence[Record]) -> Rate | None:
    """From workers that have filled this very store."""
    timed = [record.content for record in records if record.content.get("seconds")]
    rates = [content["tokens_done"] / content["seconds"] for content in timed]
    return Rate(sum(rates) / len(rates), f"measured by {len(rates)} earlier workers of this store") if rates else None


def from_benchmark(path: Path, parameters: float) -> Rate | None:
    """From the record of `make bench`, scaled by the size of the decoder. None where there is no such file.

    Args:
        path: written by `python -m locheads.bench attention --json`.
        parameters: of the decoder's layers that a token passes through.

    Raises:
        ConfigError: the file is something else.
    """
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
        shape, where = record["shape"], record["machine"]
        (step,) = (step for step in record["steps"] if step["name"] == WHOLE_PASS)
        per_expression = shape["prefix"] / shape["suffixes"] + shape["suffix_length"]
        rate = per_expression / (step["time"]["median"] / 1000)
        own = decoder_parameters(shape)
        source = f"benchmark of shape {shape['name']} on {where['device']} ({path}), scaled by parameters"
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{path} is no record of `python -m locheads.bench attention --json` ({error}).") from error
    return Rate(rate * own / parameters, source)


def decoder_parameters(shape: dict[str, Any]) -> float:
    """Weights in the layers: attention without grouped keys, gated MLP."""
    return shape["layers"] * (4 * shape["hidden"] ** 2 + 3 * shape["hidden"] * shape["intermediate"])
