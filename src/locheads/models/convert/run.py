"""The conversion as a whole: nothing appears at the destination until everything is there."""

import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from transformers import AutoModelForImageTextToText, PreTrainedConfig

from locheads.errors import ModelError, StoreError
from locheads.models import variants  # noqa: F401  makes our own classes known
from locheads.models.convert.formats import choose
from locheads.models.convert.recipe import Recipe, Request
from locheads.models.convert.rules import Plan, account
from locheads.models.convert.source import read_json
from locheads.models.convert.weights import SHARD_BYTES, count, stream
from locheads.store.atomic import write_json
from locheads.store.digest import file_digest
from locheads.store.provenance import git_state

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
    recipe = kind.recipe(Request(source, settings, **folders))
    plan = account(recipe.parts, expected_weights(recipe.config))
    with _partial(destination) as folder:
        _write_settings(recipe, folder)
        with _progress(count(plan)) as done:
            total = stream(recipe.parts, plan, folder, shard_bytes, done)
        manifest = _manifest(kind.name, recipe, plan, folder, total)
        write_json(folder / MANIFEST, manifest)
    return manifest


def expected_weights(config: PreTrainedConfig) -> dict[str, Tensor]:
    """Names and shapes of the weights that a checkpoint of this configuration holds, on the meta device."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    weights = dict(model.state_dict())
    if config.tie_word_embeddings:
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


def _write_settings(recipe: Recipe, folder: Path) -> None:
    recipe.config.architectures = [variants_name(recipe.config)]
    recipe.config.save_pretrained(folder)
    recipe.processor.save_pretrained(folder)


def variants_name(config: PreTrainedConfig) -> str:
    """Name of the class that a checkpoint of this configuration loads as."""
    return AutoModelForImageTextToText._model_mapping[type(config)].__name__


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    columns = (
        TextColumn("convert"), BarColumn(), MofNCompleteColumn(), TextColumn("tensors"), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("convert", total=total)
        yield lambda: progress.advance(task)


def _manifest(form: str, recipe: Recipe, plan: Plan, folder: Path, total: int) -> dict[str, Any]:
    sources = {}
    for part, steps in zip(recipe.parts, plan, strict=True):
        unused: dict[str, list[str]] = {}
        for key, step in steps.items():
            if not step.targets:
                unused.setdefault(step.unused, []).append(key)
        sources[part.name] = {
            "folder": str(part.weights.folder),
            "files": _hashes(part.weights.folder),
            "tensors": len(steps),
            "mapped": sum(bool(step.targets) for step in steps.values()),
            "unused": unused,
        }
        if part.base is not None:
            sources[part.name]["added_to"] = {
                "folder": str(part.base.folder), "files": _hashes(part.base.folder)
            }  # fmt: skip
    return {
        "format": form,
        "argv": sys.argv,
        "code": git_state(),
        "notes": list(recipe.notes),
        "sources": sources,
        "result": {"files": _hashes(folder), "bytes_of_weights": total},
        "map": _map(recipe, plan),
    }


def _map(recipe: Recipe, plan: Plan) -> dict[str, dict[str, list[str]]]:
    return {
        part.name: {key: list(step.targets) for key, step in steps.items() if step.targets}
        for part, steps in zip(recipe.parts, plan, strict=True)
    }


def _hashes(folder: Path) -> Mapping[str, str]:
    return {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.suffix in READ}


__all__ = ["MANIFEST", "ModelError", "convert", "expected_weights"]
