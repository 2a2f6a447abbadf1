"""The last verification of a model, kept in the cache: a run says whether the model that it asks was verified."""

import logging
from pathlib import Path
from typing import Any

from locheads.config import Config
from locheads.errors import StoreError
from locheads.models.identity import POCKET_FOLDERS, ModelIdentity
from locheads.pipeline.open_store import asked, makers
from locheads.records.command_files import VerifyFile
from locheads.store.digest import json_digest

log = logging.getLogger(__name__)


def verification_digest(config: Config, identity: ModelIdentity) -> str:
    """What a verification holds for: weights, precision, preprocessing, prompt, packages and code of the pass."""
    return json_digest([asked(config, identity), makers(config, identity)])


def kept_at(config: Config, digest: str) -> Path:
    """The folder of the verify.json that is kept."""
    return Path(config.paths.cache) / "verifications" / digest[:16]


def verification_record(config: Config, identity: ModelIdentity) -> dict[str, Any] | None:
    """What provenance.json says of the last verification; says in one line where there is none, or where one failed."""
    try:
        last = VerifyFile.read_if_there(kept_at(config, verification_digest(config, identity)))
    except StoreError:
        last = None  # damaged, and soon made again
    if last is None:
        if config.model.id not in POCKET_FOLDERS:  # the tests verify it
            log.info("%s was not verified with these settings: stage=verify tells whether it is read rightly.",
                     config.model.id)  # fmt: skip
        return None
    if last.failed:
        log.warning("%s was verified on %s, and failed: %s.", config.model.id, last.when, ", ".join(last.failed))
    return {"when": last.when, "passed": last.passed, "failed": last.failed, "not_applicable": last.not_applicable}
