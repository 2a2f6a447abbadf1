"""heads.json as typed arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from locheads.report import parse
from locheads.types import HeadIndex


@dataclass(frozen=True)
class HeadsRecord:
    """What discovery found."""

    heads: tuple[HeadIndex, ...]
    """The localization heads, the most frequent first."""
    k: int
    selection: str
    criterion: dict[str, Any]
    tau: float | None
    """Threshold on the mean attention sum; None where the criterion has none."""
    tau_per_trial: tuple[float, ...]
    n_samples: int
    """Samples per trial."""
    trials: int
    n_failed: int
    """Discovery samples that could not be processed."""
    mean_attention_sum: Float[np.ndarray, "layer head"]
    """Share of the query's attention that falls on the image, averaged over the samples, in [0, 1]."""
    frequency_mean: Float[np.ndarray, "layer head"]
    """Share of samples that chose the head, in [0, 1], averaged over the trials."""
    frequency_std: Float[np.ndarray, "layer head"]
    eligible: Bool[np.ndarray, "layer head"]
    head_iou: Float[np.ndarray, "layer head"] | None
    """Mean IoU of the head's binarised map with the truth; None where it was not measured."""
    digest: str

    @property
    def skip_layers(self) -> int:
        """How many layers at the input are never chosen."""
        value = self.criterion.get("skip_layers")
        return int(value) if isinstance(value, int | float) else 0


def parse_heads(raw: Any) -> HeadsRecord:
    """Raises KeyError or ValueError where a field is absent or malformed."""
    raw = parse.mapping(raw, "it")
    shape = (parse.count(raw["layers"], "layers"), parse.count(raw["heads_per_layer"], "heads_per_layer"))
    head_iou = raw.get("head_iou")
    return HeadsRecord(
        heads=tuple(_inside(parse.head_index(h), shape) for h in parse.listing(raw["heads"], "heads")),
        k=parse.count(raw["k"], "k"),
        selection=str(raw["selection"]),
        criterion=parse.mapping(raw["criterion"], "criterion"),
        tau=parse.optional_number(raw["tau"], "tau"),
        tau_per_trial=tuple(parse.number(t, "tau_per_trial") for t in raw.get("tau_per_trial") or () if t is not None),
        n_samples=parse.count(raw["n_samples"], "n_samples"),
        trials=parse.count(raw["trials"], "trials"),
        n_failed=parse.count(raw["n_failed"], "n_failed"),
        mean_attention_sum=parse.grid(raw["mean_attention_sum"], "mean_attention_sum", shape),
        frequency_mean=parse.grid(raw["frequency_mean"], "frequency_mean", shape),
        frequency_std=parse.grid(raw["frequency_std"], "frequency_std", shape),
        eligible=parse.grid(raw["eligible"], "eligible", shape) > 0,
        head_iou=None if head_iou is None else parse.grid(head_iou, "head_iou", shape),
        digest=str(raw.get("digest", "")),
    )


def _inside(index: HeadIndex, shape: tuple[int, int]) -> HeadIndex:
    if not (0 <= index.layer < shape[0] and 0 <= index.head < shape[1]):
        raise ValueError(f"head {index} does not exist in {shape[0]} layers of {shape[1]} heads")
    return index
