"""From the configuration to a segmenter, and what identifies its masks."""

import dataclasses
from pathlib import Path
from typing import Any

from locheads.dotted import is_dotted, load, source_digests
from locheads.errors import ConfigError, ModelError, boundary
from locheads.models.engine import EngineConfig
from locheads.models.placement import pick_device
from locheads.segmenters.config import WITH_WEIGHTS, SegmenterConfig, SegmenterKind
from locheads.segmenters.segmenter import BoxSegmenter, GrabCutSegmenter, Segmenter
from locheads.store.digest import files_digest


def load_segmenter(config: SegmenterConfig, engine: EngineConfig) -> Segmenter | None:
    """None: the pseudo-mask stays.

    Raises:
        ModelError: a checkpoint that is absent, damaged, not SAM, or of another size.
        ConfigError: a package or device that is not there.
    """
    match config.kind:
        case SegmenterKind.none:
            return None
        case SegmenterKind.box:
            return BoxSegmenter()
        case SegmenterKind.grabcut:
            return GrabCutSegmenter()
    device = pick_device(engine.device)
    if config.kind not in WITH_WEIGHTS:
        return _own(config, device)
    # Imported late: torch and transformers take seconds.
    from locheads.segmenters import sam

    classes: dict[str, type] = {"sam_hf": sam.SamHf, "segment_anything": sam.SegmentAnything, "sam2": sam.Sam2}
    made: Segmenter = classes[config.kind](config, device)
    return made


def _own(config: SegmenterConfig, device: Any) -> Segmenter:
    """The user's own, by its dotted path: a class to be made, or an object that is one already."""
    found = _named(config)
    if not isinstance(found, type):
        return found
    with boundary(f"The segmenter {config.kind} cannot be made", ConfigError, "it is called as Class(config, device)."):
        made: Segmenter = found(config, device)
    return made


def _named(config: SegmenterConfig) -> Any:
    return load(config.kind, Segmenter, "segmenter.kind")


def check_segmenter(config: SegmenterConfig) -> None:
    """Whether it can be loaded, before anything else is. Raises ModelError or ConfigError."""
    if is_dotted(config.kind):
        _named(config)
    if config.kind not in WITH_WEIGHTS or config.checkpoint is None:
        return
    if _is_path(config.checkpoint) and not Path(config.checkpoint).exists():
        raise ModelError(f"There is no {config.checkpoint}: set segmenter.checkpoint to the weights of SAM.")
    # Imported late: torch and transformers take seconds.
    from locheads.segmenters.sam import check_pretrained, meta_package
    from locheads.segmenters.sam_checkpoint import sam_model

    if config.kind == SegmenterKind.segment_anything:
        meta_package()
    if config.checkpoint.endswith(".pth"):
        sam_model(Path(config.checkpoint), config.size, mapped=True)
    else:
        check_pretrained(config)


def segmenter_identity(config: SegmenterConfig, cache: Path | None = None) -> dict[str, Any]:
    """The settings that can change a mask, with the weights' digest in place of where they lie; of a class of the
    user's own also the digest of its module's file."""
    kept = {key: value for key, value in dataclasses.asdict(config).items() if key not in ("name", "batch")}
    if is_dotted(config.kind):
        _named(config)
        kept["source"] = source_digests(config.kind)[config.kind]
    elif config.kind not in WITH_WEIGHTS:
        read = ("kind", "box", "margin", "margin_pixels")
        return {key: kept[key] for key in read} if config.kind != SegmenterKind.none else {}
    path = Path(config.checkpoint or "")
    if config.checkpoint and path.exists():
        kinds = (".safetensors", ".bin", ".json")
        files = sorted(file for file in path.iterdir() if file.suffix in kinds) if path.is_dir() else [path]
        kept["checkpoint"] = files_digest(files, cache)
    return kept


def _is_path(checkpoint: str) -> bool:
    """A hub id is OWNER/NAME at most."""
    return checkpoint.endswith(".pth") or checkpoint.startswith((".", "/", "~")) or checkpoint.count("/") > 1
