"""The attend stage: fills the store with what it lacks, and loads the LVLM only if it lacks something."""

import logging
from dataclasses import replace
from pathlib import Path

from PIL.Image import Image

from locheads.config import Config
from locheads.data.pictures import open_picture
from locheads.errors import DataError
from locheads.models.attend import attend
from locheads.models.load import Lvlm, ModelIdentity, load_lvlm
from locheads.models.prompts import render_prompt
from locheads.pipeline.progress import track
from locheads.store.attention import AttentionStore
from locheads.types import Attention, Failure, ImageGroup

log = logging.getLogger(__name__)


def open_store(config: Config, identity: ModelIdentity, annotations: str) -> AttentionStore:
    """The store of exactly this model, preprocessing, prompt and annotation files."""
    model = config.model
    key = {
        "model": {"id": model.id, "revision": model.revision, "weights": identity.weights},
        "dtype": model.dtype.value,
        "preprocess": model.preprocess.value,
        "prompt": {"template": config.prompt.template, "full_stop": config.prompt.full_stop},
        "annotations": annotations,
    }
    return AttentionStore(Path(config.paths.cache), key)


def fill(store: AttentionStore, groups: list[ImageGroup], config: Config) -> list[Failure]:
    """Runs the attention pass for what the store lacks. Returns the samples that failed; the rest is stored.

    An interrupted run loses at most the shard in progress: start it again and it goes on.
    """
    missing = store.missing(groups)
    n_samples = sum(len(group.samples) for group in groups)
    n_missing = sum(len(group.samples) for group in missing)
    log.info("Attention store %s: %d of %d expressions are there.", store.folder, n_samples - n_missing, n_samples)
    if not missing:
        return []
    lvlm: Lvlm | None = None
    failures: list[Failure] = []
    pending: list[Attention] = []
    for group in track(missing, "attend", "pictures"):
        asked, picture, failed = _open(group, config)
        failures += failed
        if picture is None:
            continue
        if lvlm is None:
            # Only now: where all that is missing is what failed before, no weights load.
            log.info("Loading %s.", config.model.id)
            lvlm = load_lvlm(config.model, config.engine)
        attention, failed = _attend_group(lvlm, asked, picture, config)
        failures += failed
        pending += [attention] if attention else []
        if len(pending) >= config.engine.shard_images:
            store.write(pending)
            pending = []
    store.write(pending)
    for failure in failures[:5]:
        log.warning("Sample %s failed: %s", failure.sample_id, failure.reason)
    if len(failures) > 5:
        log.warning("... and %d more samples failed; all are in predictions.parquet.", len(failures) - 5)
    return failures


def _open(group: ImageGroup, config: Config) -> tuple[ImageGroup, Image | None, list[Failure]]:
    """-> (the group with the expressions that can be asked, its picture if any can, what failed)."""
    askable, failures = [], []
    for sample in group.samples:
        try:
            render_prompt(config.prompt, sample.expression)
            askable.append(sample)
        except DataError as error:
            failures.append(Failure(sample.sample_id, group.image_id, str(error)))
    asked = replace(group, samples=tuple(askable))
    if not askable:
        return asked, None, failures
    try:
        return asked, open_picture(group), failures
    except DataError as error:
        return asked, None, failures + _all_failed(asked, error)


def _attend_group(
    lvlm: Lvlm, group: ImageGroup, picture: Image, config: Config
) -> tuple[Attention | None, list[Failure]]:
    try:
        return attend(lvlm, group, picture, config.prompt), []
    except DataError as error:
        return None, _all_failed(group, error)


def _all_failed(group: ImageGroup, error: DataError) -> list[Failure]:
    return [Failure(sample.sample_id, group.image_id, str(error)) for sample in group.samples]
