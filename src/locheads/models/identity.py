"""What identifies a checkpoint: kept in the cache, because to read it transformers is imported, which takes seconds."""

import dataclasses
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from locheads import dotted
from locheads.errors import ModelError, StoreError, boundary
from locheads.models.config import PROBE, ModelConfig
from locheads.store.derived import read_derived_json, write_derived_json
from locheads.store.digest import files_digest, json_digest
from locheads.store.provenance import source_digest, versions

POCKET = "pocket"
POCKET_FOLDERS = {POCKET: "weights", "pocket_v1": "weights_v1"}
"""Of `locheads.pocket`, by the id of a model that ships with the package: the second edition, and the first."""
PARTS = "its files are damaged, of different models, or of another version of transformers; download or save it again."


@dataclass(frozen=True)
class ModelIdentity:
    """What is known of a checkpoint without loading its weights."""

    source: str
    """Folder or hub id, as `from_pretrained` takes it."""
    model_type: str
    layers: int
    heads: int
    """Query heads per layer of the text decoder."""
    weights: str
    """sha256 over the weight files of a folder, or the commit of a hub snapshot."""
    image_processor: str | None = None
    """Class and backend of what makes the pixels, such as "CLIPImageProcessorPil (pil)": those of the backend
    "torchvision" differ. None: unknown until the model is loaded."""
    own_backend: str | None = None
    """The backend that the checkpoint was made with. None: its image processor is not transformers'."""


def identify(config: ModelConfig, cache: Path | None = None) -> ModelIdentity:
    """What the checkpoint is: from the cache where the same files, package versions and code have been asked before.

    Args:
        config: which checkpoint.
        cache: folder that remembers identities, and the hashes of files that have not changed; None: read all anew.

    Raises:
        ModelError: nothing there, not a checkpoint, or a family without an adapter.
    """
    kept = None if cache is None else _kept_at(config, cache)
    if kept is not None and (known := read_derived_json(kept)) is not None:
        return ModelIdentity(**known)
    # Imported late: torch and transformers take seconds.
    from locheads.models.load import read_identity

    identity = read_identity(config, cache)
    if kept is not None:
        with suppress(StoreError):  # it only saves time
            write_derived_json(kept, dataclasses.asdict(identity))
    return identity


def _kept_at(config: ModelConfig, cache: Path) -> Path | None:
    """The file that keeps an identity; None where a class of the user's own has a say in it."""
    if config.adapter is not None:
        return None
    source = source_of(config)
    content = folder_digest(Path(source), cache) if Path(source).is_dir() else _commit(source, config.revision)
    if content is None:
        return None
    asked = [dataclasses.asdict(config), source, content, versions(), source_digest()]
    return cache / "identities" / f"{json_digest(asked)[:16]}.json"


def _commit(source: str, revision: str | None) -> str | None:
    """Of a hub id's revision, as the hub or, without a network, the last download has it; None where that fails, of
    which `read_identity` says why."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(source, "config.json", revision=revision)).parent.name
    except (OSError, ValueError):
        return None


def source_of(config: ModelConfig) -> str:
    """Folder or hub id of the checkpoint. Raises ModelError for a folder that is not there."""
    shipped = POCKET_FOLDERS.get(config.id)
    source = str(resources.files("locheads.pocket") / shipped) if shipped else config.id
    # A hub id is OWNER/NAME at most.
    if (source.startswith((".", "/", "~")) or source.count("/") > 1) and not Path(source).is_dir():
        names = ", ".join(repr(name) for name in POCKET_FOLDERS)
        raise ModelError(
            f"There is no folder {source}: model.id must be {names}, a checkpoint's folder (python -m "
            "locheads.models.convert makes one of an original), or a hub id."
        )
    return source


def adapter_identity(config: ModelConfig) -> dict[str, Any]:
    """Of the user's own adapter {"adapter": {path: digest of its module}}, which decides what the maps are; of the one
    that asks the model its name."""
    if config.adapter in (None, PROBE):
        return {} if config.adapter is None else {"adapter": PROBE}
    return {"adapter": dotted.source_digests(config.adapter)}


def folder_digest(folder: Path, cache: Path | None) -> str:
    """sha256 over the weights, settings and code of a checkpoint's folder. Raises ModelError."""
    # .py: with trust_remote_code it decides what the weights compute.
    kinds = (".safetensors", ".bin", ".json", ".model", ".txt", ".jinja", ".py")
    with boundary(f"The files of {folder} cannot be read", ModelError, "check its permissions, or copy it again."):
        return files_digest(sorted(path for path in folder.iterdir() if path.suffix in kinds), cache)
