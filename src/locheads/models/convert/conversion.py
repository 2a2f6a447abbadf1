"""The conversion as a whole: nothing appears at the destination until everything is there."""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from locheads.errors import ModelError, StoreError, boundary
from locheads.models.adapters import ON_THE_HUB, adapter_class
from locheads.models.convert.checkpoint import read_settings, tensors_of, write_shards
from locheads.models.convert.from_llava import LLAVA
from locheads.models.convert.from_mini_gemini import MINI_GEMINI
from locheads.models.convert.rules import Format, Part, Plan, Request, Rule, account
from locheads.models.image_backend import save_processor
from locheads.store.atomic import write_json
from locheads.store.digest import file_digest
from locheads.store.provenance import git_state
from locheads.terminal import track

FORMATS = {form.name: form for form in (MINI_GEMINI, LLAVA)}
"""In the order in which a config.json is tried against them."""
MANIFEST = "conversion.json"
READ = (".safetensors", ".bin", ".json", ".model", ".txt")
"""Files of a source that the manifest names with their hashes."""
SHARD_BYTES = 800_000_000
"""Of one result file. It bounds the memory besides the source file that is open: a buffer and its copy when written."""


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
    settings = read_settings(source / "config.json")
    kind = choose(source, settings, form)
    hint = "download it again; if its model works elsewhere, this format has a form that is not known here."
    with boundary(f"The settings of {source} make no {kind.name} model", ModelError, hint):
        recipe = kind.recipe(Request(source, settings, **folders))
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(recipe.config)
    expected = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        expected.pop("lm_head.weight", None)
    plan = account(recipe.parts, expected)
    with _partial(destination) as folder:
        recipe.config.architectures = [type(model).__name__]
        recipe.config.save_pretrained(folder)
        save_processor(recipe.processor, folder)
        total = stream(recipe.parts, plan, folder, shard_bytes)
        manifest = {
            "format": kind.name,
            "argv": sys.argv,
            "code": git_state(),
            "notes": list(recipe.notes),
            "sources": {part.name: _source(part, steps) for part, steps in zip(recipe.parts, plan, strict=True)},
            "map": {
                part.name: {key: list(step.targets) for key, step in steps.items() if step.targets}
                for part, steps in zip(recipe.parts, plan, strict=True)
            },
            "result": {"files": _hashes(folder), "bytes_of_weights": total},
        }
        write_json(folder / MANIFEST, manifest)
    return manifest


def choose(source: Path, settings: Mapping[str, Any], name: str | None) -> Format:
    """The format of this name, or the first that the configuration fits. Raises ModelError where there is none."""
    names = ", ".join(FORMATS)
    if name is not None and name not in FORMATS:
        raise ModelError(f"--format {name} is unknown: there are {names}.")
    found = [form for form in FORMATS.values() if form.fits(settings)] if name is None else [FORMATS[name]]
    if found:
        return found[0]
    kind = settings.get("model_type", "no model_type")
    if kind in ON_THE_HUB:
        adapter_class(kind, str(source))  # raises the sentence on where its other form is
    raise ModelError(
        f"{source / 'config.json'} ({kind}) is of none of the formats {names}: what transformers loads needs no "
        "conversion; else choose with --format."
    )


def stream(parts: Sequence[Part], plan: Plan, folder: Path, limit: int = SHARD_BYTES) -> int:
    """Makes every tensor that the plan names, one source file after the other. -> their bytes.

    Args:
        parts, plan: what `account` has found complete.
        folder: where the files go.
        limit: bytes of one result file.
    """
    count = sum(len(step.targets) for steps in plan for step in steps.values())
    return write_shards(folder, track(_results(parts, plan), "convert", "tensors", count), limit)


def _results(parts: Sequence[Part], plan: Plan) -> Iterator[tuple[str, Tensor]]:
    for part, steps in zip(parts, plan, strict=True):
        for path in part.weights.files:
            for key, tensor in tensors_of(path).items():
                if steps[key].targets:
                    yield from zip(steps[key].targets, steps[key].change(_with_base(part, key, tensor)), strict=True)


def _with_base(part: Part, key: str, tensor: Tensor) -> Tensor:
    """For delta weights the sum with the base, which may have fewer rows: the vocabulary grew since."""
    if part.base is None:
        return tensor
    base = part.base.find(key)
    if base is None and ("mm_projector" in key or "vision_tower" in key):
        return tensor
    if base is None:
        raise ModelError(f"{part.base.folder} has no {key}, which the delta weights change: it is not their base.")
    grown = key.endswith(("embed_tokens.weight", "lm_head.weight")) and base.shape[0] <= tensor.shape[0]
    if base.shape[1:] != tensor.shape[1:] or not (grown or base.shape == tensor.shape):
        raise ModelError(
            f"{key} has the shape {list(tensor.shape)} in the delta weights and {list(base.shape)} in their base "
            f"{part.base.folder}: this is not the base that they were made from."
        )
    total = tensor.clone()
    total[: base.shape[0]] += base.to(total.dtype)
    return total


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


def _source(part: Part, steps: Mapping[str, Rule]) -> dict[str, Any]:
    unused: dict[str, list[str]] = {}
    for key, step in steps.items():
        if not step.targets:
            unused.setdefault(step.unused, []).append(key)
    base = part.base
    added = {} if base is None else {"added_to": {"folder": str(base.folder), "files": _hashes(base.folder)}}
    return {
        "folder": str(part.weights.folder),
        "files": _hashes(part.weights.folder),
        "tensors": len(steps),
        "mapped": sum(bool(step.targets) for step in steps.values()),
        "unused": unused,
        **added,
    }


def _hashes(folder: Path) -> dict[str, str]:
    """Name of a file -> sha256."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in READ]
    return {path.name: file_digest(path) for path in track(files, "hash", "files")}
