"""stage=fetch: everything that workers would download, convert or hash at once is done here first, by one process."""

import logging
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from locheads.config import Config, Stage
from locheads.errors import ModelError
from locheads.models.config import ModelConfig
from locheads.models.identity import POCKET_FOLDERS, identify
from locheads.pipeline.inputs import load_inputs
from locheads.pipeline.run_life import Status
from locheads.records.command_files import FetchedFile

log = logging.getLogger(__name__)

OTHER_FORMS = ("*.bin", "*.pth", "*.pt", "*.h5", "*.msgpack", "*.onnx", "*.gguf", "consolidated*", "original/*")
"""The same weights once more, where a repository has safetensors."""


def fetch_inputs(config: Config, folder: Path, status: Status) -> None:
    """Weights, data set and their digests, all into their caches -> fetched.json.

    Raises:
        LocHeadsError: something that cannot be had.
    """
    with status.stage(Stage.fetch):
        fetch(config).write(folder)


def fetch(config: Config) -> FetchedFile:
    """-> what is there now."""
    where = _weights(config.model)
    identity = identify(config.model, Path(config.paths.cache))
    inputs = load_inputs(config)
    log.info("Model %s: %s. Data set %s: read.", config.model.id, where, config.dataset.name)
    return FetchedFile(
        model=config.model.id,
        folder=where,
        weights=identity.weights,
        dataset=config.dataset.name,
        annotations_sha256=inputs.annotations,
        evaluated=sum(len(group.samples) for group in inputs.evaluated),
        discovery=sum(len(group.samples) for group in inputs.discovery),
    )


def _weights(model: ModelConfig) -> str:
    """Downloads a hub model, or finds that it is a folder. -> the folder with the weights."""
    if model.id in POCKET_FOLDERS or Path(model.id).is_dir():
        return model.id
    try:
        names = [file.rfilename for file in HfApi().model_info(model.id, revision=model.revision).siblings or []]
        ignored = OTHER_FORMS if any(name.endswith(".safetensors") for name in names) else ()
        return snapshot_download(model.id, revision=model.revision, ignore_patterns=list(ignored))
    except (HfHubHTTPError, OSError, ValueError) as error:
        return _downloaded_before(model, error)


def _downloaded_before(model: ModelConfig, error: Exception) -> str:
    try:
        return snapshot_download(model.id, revision=model.revision, local_files_only=True)
    except (OSError, ValueError):
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(
            f"Cannot download {model.id} ({reason}): check the name and the network, unset HF_HUB_OFFLINE, log in "
            "with `hf auth login` where its licence asks for it, or set model.id to a folder."
        ) from error
