"""Head sets in the forms in which others publish them -> a heads.json that `heads.set` takes.

- A list: "L14H24" or [layer, head], the first head first.
- The head scores of SparseMM and of the retrieval heads before it: {"14-24": score or list of scores, ...}, a key
  "layer-head" per head; the highest mean is first (visual_head/head_score/*.json in github.com/CR400AF-A/SparseMM).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from locheads.discovery.headset import parse_heads
from locheads.errors import StoreError, boundary
from locheads.records.heads_file import SCHEMA, HeadSetFile
from locheads.records.record_base import decode_json
from locheads.types import HeadIndex, heads_by

FORMS = 'a list of "L14H24" or [14, 24], or scores {"14-24": [...], ...}'


def read_foreign(path: Path, k: int, source: str, model: str | None, shape: tuple[int, int] | None) -> dict[str, Any]:
    """The content of a heads.json.

    Args:
        path: of a file in one of the forms.
        k: of a file of scores, how many heads to take.
        source: who found them, in words.
        model: in which they were found.
        shape: its layers and heads per layer; None: as many as the scores have.

    Raises:
        StoreError: the file is not in one of the forms, or the shape does not hold its heads.
    """
    with boundary(f"{path} is no head set", StoreError, f"give {FORMS}."):
        content = decode_json(path.read_bytes())
        scores = _scores(content) if isinstance(content, Mapping) else None
        listed = heads_by(scores)[:k] if scores is not None else _listed(content)
    shape = shape or (scores.shape if scores is not None else None)
    if shape is None:
        raise StoreError(f"{path} does not tell how many layers and heads its model has: add --like SET or --shape.")
    found = {
        "schema": SCHEMA,
        "source": source,
        "heads": [{"layer": head.layer, "head": head.head} for head in listed],
        "k": len(listed),
        "layers": shape[0],
        "heads_per_layer": shape[1],
        "model": {"id": model},
        "score": None if scores is None else scores.tolist(),
    }
    with boundary(f"{path} is no head set", StoreError, f"give {FORMS}, of a model with that many layers and heads."):
        HeadSetFile.parse(found)
    return found


def _listed(content: Any) -> tuple[HeadIndex, ...]:
    return parse_heads([f"L{each[0]}H{each[1]}" if isinstance(each, list) and len(each) == 2 else each
                        for each in content])  # fmt: skip


def _scores(content: Mapping[str, Any]) -> Float[np.ndarray, "layer head"]:
    """A mean score per head, none of them missing."""
    means = {_place(key): _mean(key, value) for key, value in content.items()}
    shape = tuple(1 + max(place[axis] for place in means) for axis in (0, 1))
    if len(means) != shape[0] * shape[1]:
        raise ValueError(f"of {shape[0]} layers of {shape[1]} heads it has {len(means)} scores")
    return np.array([[means[layer, head] for head in range(shape[1])] for layer in range(shape[0])])


def _place(key: str) -> tuple[int, int]:
    if not (found := re.fullmatch(r"(\d{1,5})-(\d{1,5})", key, re.ASCII)):
        raise ValueError(f"{key!r} is no layer-head")
    return int(found[1]), int(found[2])


def _mean(key: str, value: Any) -> float:
    scores = np.asarray(value, float)
    if not scores.size or not np.isfinite(scores).all() or scores.min() < 0:
        raise ValueError(f"{key!r} has no score, or one that is no number from 0 on")
    return float(scores.mean())
