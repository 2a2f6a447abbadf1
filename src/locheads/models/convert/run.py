"""The conversion as a whole: nothing appears at the destination until everything is there."""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel

from locheads.errors import ModelError, StoreError, boundary
from locheads.models import variants  # noqa: F401  makes our own classes known
from locheads.models.convert.formats import choose
from locheads.models.convert.recipe import Recipe, Request
from locheads.models.convert.rules import Part, Plan, Step, account
from locheads.models.convert.source import read_json
from locheads.models.convert.weights import SHARD_BYTES, count, stream
from locheads.store.atomic import write_json
from locheads.store.digest import file_digest
from locheads.store.provenance import git_state
from locheads.terminal import PlainConsole

MANIFEST = "conversion.json"
READ = (".safetensors", ".bin", ".json", ".model", ".txt")
"""Files of a source that the manifest names with their hashes."""


def convert(
    source: Path,
    destination: Path,
    form: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    **folders: Any,
) -> dict[str, Any]:
    """Makes a checkpoint that the engine loads. -> the manifest, which is also conversion.json in the result.

    Args:
        source: folder of the original checkpoint.
        destination: folder of the result; it must not exist, or be empty.
        form: name of the format; None: from config.json.
        shard_bytes: of one result file.
        folders: further fields of `Request`.

    Raises:
        ModelError: a source that is damaged, incomplete or of no known format.
        StoreError: a destination that is there already, or cannot be written.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise StoreError(f"{destination} is there already: remove it, or give another folder.")
    settings = read_json(source / "config.json")
    kind = choose(source, settings, form)
    hint = "download it again; if its model works elsewhere, this format has a form that is not known here."
    with boundary(f"The settings of {source} make no {kind.name} model", ModelError, hint):
        recipe = kind.recipe(Request(source, settings, **folders))
        model = skeleton(recipe.config)
    plan = account(recipe.parts, expected_weights(model))
    with _partial(destination) as folder:
        _write_settings(recipe, type(model).__name__, folder)
        with _progress("convert", "tensors", count(plan)) as done:
            total = stream(recipe.parts, plan, folder, shard_bytes, done)
        hashes = _hashes(_folders(recipe, folder))
        manifest = _manifest(kind.name, recipe, plan, hashes) | {
            "result": {"files": hashes[folder], "bytes_of_weights": total}
        }
        write_json(folder / MANIFEST, manifest)
    return manifest


def skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """The model that a checkpoint of this configuration loads as, on the meta device: names and shapes, no weights."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def expected_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Name -> outline of each weight that a checkpoint of this model holds."""
    weights = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    return weights


@contextmanager
def _partial(destination: Path) -> Iterator[Path]:
    """A folder beside the destination, which becomes it in the end and vanishes after a failure."""
    folder = destination.parent / f".{destination.name}.partial"
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
        if destination.exists():
            destination.rmdir()
        folder.rename(destination)
    except OSError as error:
        raise StoreError(f"Cannot write {destination}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_settings(recipe: Recipe, architecture: str, folder: Path) -> None:
    recipe.config.architectures = [architecture]
    recipe.config.save_pretrained(folder)
    recipe.processor.save_pretrained(folder)


@contextmanager
def _progress(task: str, unit: str, total: int) -> Iterator[Callable[[], None]]:
    columns = (
        TextColumn(f"{task:<9}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, disable=not sys.stderr.isatty(), console=PlainConsole(stderr=True)) as progress:
        bar = progress.add_task(task, total=total)
        yield lambda: progress.advance(bar)


def _folders(recipe: Recipe, result: Path) -> list[Path]:
    bases = [part.base.folder for part in recipe.parts if part.base is not None]
    return [*(part.weights.folder for part in recipe.parts), *bases, result]


def _hashes(folders: Sequence[Path]) -> dict[Path, dict[str, str]]:
    """Per folder: name of a file -> sha256."""
    files = [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in READ]
    found: dict[Path, dict[str, str]] = {folder: {} for folder in folders}
    with _progress("hash", "files", len(files)) as done:
        for path in files:
            found[path.parent][path.name] = file_digest(path)
            done()
    return found


def _manifest(form: str, recipe: Recipe, plan: Plan, hashes: Mapping[Path, Mapping[str, str]]) -> dict[str, Any]:
    return {
        "format": form,
        "argv": sys.argv,
        "code": git_state(),
        "notes": list(recipe.notes),
        "sources": {part.name: _source(part, steps, hashes) for part, steps in zip(recipe.parts, plan, strict=True)},
        "map": {
            part.name: {key: list(step.targets) for key, step in steps.items() if step.targets}
            for part, steps in zip(recipe.parts, plan, strict=True)
        },
    }


def _source(part: Part, steps: Mapping[str, Step], hashes: Mapping[Path, Mapping[str, str]]) -> dict[str, Any]:
    unused: dict[str, list[str]] = {}
    for key, step in steps.items():
        if not step.targets:
            unused.setdefault(step.unused, []).append(key)
    base = part.base
    added = {} if base is None else {"added_to": {"folder": str(base.folder), "files": hashes[base.folder]}}
    return {
        "folder": str(part.weights.folder),
        "files": hashes[part.weights.folder],
        "tensors": len(steps),
        "mapped": sum(bool(step.targets) for step in steps.values()),
        "unused": unused,
        **added,
    }


__all__ = ["MANIFEST", "convert"]
