"""Which attention store a run reads and fills: the one of its question, made with what is installed here."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from locheads.config import Config
from locheads.models.config import Query
from locheads.models.engine import OtherVersions, Quantization
from locheads.models.identity import ModelIdentity, adapter_identity
from locheads.store.attention_store import AttentionStore
from locheads.store.key import code_digest
from locheads.store.provenance import version

MAKERS = ("torch", "transformers", "tokenizers", "pillow", "numpy")
"""Packages that make pixels, tokens and attention; torchvision and bitsandbytes besides, where they are used."""

NUMBERS = "numbers"
"""In the question: how the model writes boxes, where the rows of their numbers are taken."""
NO_PART = frozenset(
    f"locheads.{name}"
    for name in (
        # Settings: their values are in the key.
        "config", "dotted", "models.engine", "discovery.config", "grounding.config", "models.config",
        # Overlaps of maps: their code is in their own key (`overlaps_key`).
        "dependence", "dependence.config", "dependence.overlaps", "dependence.pairs",
        # What is said, when, in which order, and how it is kept.
        "errors", "pipeline.signals", "pipeline.timing", "records", "records.provenance_file", "records.record_base",
        "store.atomic", "store.attention_store", "store.derived", "store.digest", "store.kept", "store.key",
        "store.needed_maps", "store.provenance", "terminal", "text",
    )
)  # fmt: skip
"""Modules that the attention pass imports and that decide nothing of the maps."""


def open_store(
    config: Config,
    identity: ModelIdentity,
    annotations: str,
    images: Mapping[Path, str | None] | None = None,
) -> AttentionStore:
    """The store of exactly this model, precision, preprocessing, prompt and annotation files, made with what is here.

    The images are not in the key: each entry holds the checksum of its own. Nor is the device: the same versions
    agree to rounding on all of them, and timing.json names those that made the maps. `images`: see `AttentionStore`.
    """
    question = asked(config, identity) | {"annotations": annotations}
    take = config.engine.other_versions == OtherVersions.take
    return AttentionStore(Path(config.paths.cache), question, makers(config, identity), take, images)


def asked(config: Config, identity: ModelIdentity) -> dict[str, Any]:
    """Which model, in which precision, sees images how and is asked what."""
    model, prompt = dataclasses.asdict(config.model), dataclasses.asdict(config.prompt)
    # Names, and where the checkpoint lies: what it is, its digest says, so that a moved one is not asked again. Which
    # image processor was taken, the makers say.
    for setting in ("name", "id", "revision", "adapter", "image_backend"):
        del model[setting]
    del prompt["name"]
    question: dict[str, Any] = {
        "model": model | {"weights": identity.weights} | adapter_identity(config.model),
        "prompt": prompt,
    }
    if not config.prompt.asks:
        del prompt["max_new_tokens"]
    elif config.prompt.query == Query.answer_numbers:
        question[NUMBERS] = config.direct.box_format
    if config.engine.quantization != Quantization.none:
        question["quantization"] = config.engine.quantization.value
    return question


def makers(config: Config, identity: ModelIdentity) -> dict[str, str | None]:
    """What the attention pass makes its maps with: versions, image processor, digest of our own code."""
    packages = list(MAKERS)
    if "torchvision" in (identity.image_processor or ""):
        packages.append("torchvision")
    if config.engine.quantization != Quantization.none:
        packages.append("bitsandbytes")
    code = code_digest("locheads.pipeline.attention_pass", without=NO_PART)
    return {name: version(name) for name in packages} | {
        "image processor": identity.image_processor,
        "attention pass": code,
    }
