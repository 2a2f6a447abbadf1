"""Localization heads as a file: the heads.json of a run, or a set that is published with the package."""

import json
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from locheads.errors import ConfigError, StoreError
from locheads.store.run_folder import refuse_changed
from locheads.types import HeadIndex, HeadSet

SCHEMA = 1
"""Version of what a heads.json holds. Raised whenever a reader of the old form would misread the new one."""


def read_headset(name: str | Path) -> HeadSet:
    """The localization heads of a file, the most frequent first.

    Args:
        name: a published set (see `published`), a heads.json, or a folder with one.

    Raises:
        StoreError: nothing is there, it is no heads.json, one of another schema version, or one in a run folder that is
            not what the run wrote.
    """
    path = _locate(name)
    refuse_changed(path.parent, [path.name])
    try:
        content = json.loads(path.read_text())
        version = content.get("schema")
        if version == SCHEMA:
            return _parse(content, str(name))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is no heads.json of a run ({error}): make one with python run.py.") from error
    raise StoreError(
        f"{path} has the schema version {version}, and this version of LocHeads reads {SCHEMA}: make it again with "
        "python run.py stage=discover."
    )


def published() -> list[str]:
    """Names of the sets that come with the package, which are named as the files in conf/model/."""
    return sorted(path.name.removesuffix(".json") for path in _folder().iterdir() if path.name.endswith(".json"))


def published_for(model: str) -> HeadSet | None:
    """The published set of the model with this id, if there is one."""
    sets = (read_headset(name) for name in published())
    return next((found for found in sets if found.model == model), None)


def check_headset(heads: HeadSet, layers: int, heads_per_layer: int) -> None:
    """Raises ConfigError where a model of this many layers and heads cannot be the one of the set."""
    if (heads.layers, heads.heads_per_layer) != (layers, heads_per_layer):
        raise ConfigError(
            f"{heads.name} holds heads of {heads.model or 'a model'} with {heads.layers} layers of "
            f"{heads.heads_per_layer} heads, but this model has {layers} layers of {heads_per_layer} heads: use the "
            "heads.json of a run with this model."
        )


def parse_heads(names: Iterable[str]) -> tuple[HeadIndex, ...]:
    """ "L14H24" -> HeadIndex(14, 24). Raises StoreError for anything else."""
    return tuple(_parse_name(name) for name in names)


def _folder() -> Any:
    return resources.files("locheads") / "heads"


def _locate(name: str | Path) -> Path:
    if str(name) in published():
        return Path(str(_folder() / f"{name}.json"))
    path = Path(name)
    if not path.exists():
        raise StoreError(
            f"There is no head set {name}: give the heads.json of a run, a folder with one, or the name of a "
            f"published set ({', '.join(published())})."
        )
    return path / "heads.json" if path.is_dir() else path


def _parse(content: dict[str, Any], name: str) -> HeadSet:
    """Raises KeyError, TypeError or ValueError where a field is absent or makes no sense."""
    heads = tuple(HeadIndex(int(each["layer"]), int(each["head"])) for each in content["heads"])
    layers, heads_per_layer = int(content["layers"]), int(content["heads_per_layer"])
    outside = [str(h) for h in heads if not (0 <= h.layer < layers and 0 <= h.head < heads_per_layer)]
    if outside:
        raise ValueError(f"{outside[0]} is not among {layers} layers of {heads_per_layer} heads")
    if not heads or len(set(heads)) < len(heads):
        raise ValueError("its heads must be at least one, and all different")
    data = content.get("dataset") or {}
    found_on = (str(data["name"]), str(data["split"])) if data else None
    model = (content.get("model") or {}).get("id")
    found = f"found by a run on {found_on[0]} {found_on[1]}" if found_on else "not said"
    return HeadSet(heads, name, str(content.get("source", found)), model, layers, heads_per_layer, found_on)


def _parse_name(name: str) -> HeadIndex:
    match = re.fullmatch(r"L(\d+)H(\d+)", name)
    if match is None:
        raise StoreError(f"{name!r} is no head: write layer and head, counted from 0, like L14H24.")
    return HeadIndex(int(match[1]), int(match[2]))
