"""Heads that the configuration gives: heads.set instead of discovery, engine.maps for what the store keeps."""

import logging
from typing import Any

from locheads.config import Config
from locheads.discovery.headset import HeadSet, check_headset, differences, read_headset
from locheads.errors import ConfigError
from locheads.models.engine import ALL_MAPS, top_heads_kept
from locheads.models.identity import ModelIdentity
from locheads.types import HeadIndex

log = logging.getLogger(__name__)


def given_heads(config: Config, identity: ModelIdentity) -> HeadSet | None:
    """The heads of heads.set; None where they are to be discovered.

    Raises:
        StoreError: no heads.json.
        ConfigError: heads of another model, fewer than heads.k, or found on the evaluated samples.
    """
    if config.heads.set is None:
        return None
    heads = read_headset(config.heads.set)
    check_headset(heads, identity.layers, identity.heads)
    if config.heads.k > len(heads.heads):
        raise ConfigError(
            f"heads.k={config.heads.k} is more than the {len(heads.heads)} heads of heads.set={heads.name}: lower it."
        )
    dataset = config.dataset
    if heads.found_on == (dataset.name, dataset.split):
        raise ConfigError(
            f"The heads of heads.set={heads.name} were found on {dataset.name} {dataset.split}, which is what is "
            "evaluated: heads must be found on other images."
        )
    for sentence in differences(heads, config.model, config.prompt):
        log.warning("heads.set: %s", sentence)
    return heads


def given_record(heads: HeadSet, k: int) -> dict[str, Any]:
    """What provenance.json says of heads that were not discovered by the run."""
    return {
        "set": heads.name,
        "source": heads.source,
        "model": heads.model,
        "found_on": heads.found_on,
        "heads": [str(head) for head in heads.heads[:k]],
        # Their images are not known, so nobody can have kept them apart.
        "leakage": "not checked",
    }


def maps_heads(config: Config, identity: ModelIdentity) -> frozenset[HeadIndex] | None:
    """The heads of engine.maps=PATH; None for its other forms. Raises StoreError or ConfigError for a wrong file."""
    if config.engine.maps == ALL_MAPS or top_heads_kept(config.engine.maps):
        return None
    heads = read_headset(config.engine.maps)
    check_headset(heads, identity.layers, identity.heads)
    return frozenset(heads.heads)
