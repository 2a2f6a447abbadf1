"""Reads a run folder back. A file that is missing or broken becomes an entry in `RunRecord.problems`, not an
error: the report of a run that died shows what there is."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from jaxtyping import Float

from locheads.errors import StoreError
from locheads.evaluation.metric_table import METRIC
from locheads.records.audit_file import AuditFile
from locheads.records.follows import JudgementFile
from locheads.records.gallery_file import GalleryFile, GalleryItem, StepArrays, read_maps, read_steps
from locheads.records.heads_file import HeadsFile
from locheads.records.metrics_file import MetricsRecord
from locheads.records.provenance_file import ProvenanceFile, SamplesFile, StatusFile
from locheads.records.receipt_file import changed_files
from locheads.records.record_base import Record, own_file
from locheads.records.zoom_file import ZoomFile
from locheads.text import reason

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R", bound=Record)

MADE_BY = {"heads.json": "discover", "metrics.json": "evaluate", "audit.json": "audit"}
"""File -> the stage that writes it."""
_EVALUATION = ("metrics.json", "gallery.json", "gallery.npz")


@dataclass(frozen=True)
class RunRecord:
    """What a run folder says about its run. None or empty where a file is missing or broken."""

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    """config.yaml as it is."""
    provenance: ProvenanceFile = field(default_factory=ProvenanceFile)
    samples: SamplesFile | None = None
    status: StatusFile | None = None
    heads: HeadsFile | None = None
    metrics: MetricsRecord | None = None
    audit: AuditFile | None = None
    judgement: JudgementFile | None = None
    """None but of stage=judge."""
    zoom: ZoomFile | None = None
    """None of runs that looked once."""
    gallery: tuple[GalleryItem, ...] = ()
    maps: dict[str, Float[np.ndarray, "map row col"]] = field(default_factory=dict)
    """Per sample_id: the fused map, then one map per head in the order of the item's `heads`."""
    steps: dict[str, StepArrays] = field(default_factory=dict)
    """Per sample_id how its answer came about; empty for runs of before they were kept."""
    problems: tuple[str, ...] = ()
    """One sentence per record that is missing, broken, incomplete or not what the run wrote."""

    def setting(self, key: str, default: Any = None) -> Any:
        """A value of config.yaml by its dotted name; `default` where it is absent or null."""
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return default if value is None else value

    @property
    def external(self) -> str | None:
        """The file of predictions that the run scored instead of heads; None for the other runs."""
        return self.setting("predictions") or None

    @property
    def is_direct(self) -> bool:
        """Whether the run asked the LVLM for boxes in words (stage=direct)."""
        return self.setting("stage") == "direct" if self.metrics is None else self.metrics.own() == "direct_output"

    @property
    def about_heads(self) -> bool:
        """False where the run scored boxes that no head gave."""
        return not (self.external or self.is_direct)

    def need(self, kind: type[R]) -> R:
        """The record of this kind (a key of MADE_BY). Raises StoreError, which says what to do, without it."""
        for found in (self.heads, self.metrics, self.audit):
            if isinstance(found, kind):
                return found
        why = next((p for p in self.problems if p.startswith(kind.FILE)), f"{kind.FILE} is missing.")
        stage = MADE_BY[kind.FILE]
        raise StoreError(f"{self.folder}: {why[:-1]}: finish the run with stage={stage} or later, in the same folder.")


def read_run(folder: Path) -> RunRecord:
    """Reads every record of a run folder, and logs which files are not what the run wrote.

    Raises StoreError where `folder` is not a folder, or holds no record of a run at all.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StoreError(f"{folder} is not a folder: give the run folder that `python run.py` printed.")
    reader = _Reader(folder)
    text = reader.read("config.yaml", lambda content: content.decode("utf-8"), "")
    config: dict[str, Any] = reader.read("config.yaml", _settings, {}) if text else {}
    # An audit evaluates nothing by itself, and other runs hold no audit.
    audits = config.get("stage") == "audit" or (folder / "audit.json").exists()
    reader.optional = (
        "audit.json",
        "steps.npz",
        SamplesFile.FILE,
        JudgementFile.FILE,
        ZoomFile.FILE,
        *(_EVALUATION if audits else ()),
    )
    if config.get("predictions") or config.get("stage") == "direct":
        reader.optional += ("heads.json", "gallery.json", "gallery.npz")
    provenance = reader.read(ProvenanceFile.FILE, ProvenanceFile.decode, ProvenanceFile())
    record = RunRecord(
        folder=folder,
        config=config,
        config_text=text,
        provenance=provenance,
        samples=reader.read(SamplesFile.FILE, SamplesFile.decode, None),
        status=reader.read(StatusFile.FILE, StatusFile.decode, None),
        # A run that was given its heads discovered none.
        heads=None if provenance.heads else reader.read(HeadsFile.FILE, HeadsFile.decode, None),
        metrics=reader.read(MetricsRecord.FILE, MetricsRecord.decode, None),
        audit=reader.read(AuditFile.FILE, _audit, None),
        judgement=reader.read(JudgementFile.FILE, JudgementFile.decode, None),
        zoom=reader.read(ZoomFile.FILE, ZoomFile.decode, None),
        gallery=reader.read(GalleryFile.FILE, reader.gallery, ()),
        maps=reader.read("gallery.npz", read_maps, {}),
        steps=reader.read("steps.npz", read_steps, {}),
        problems=(*_changes(folder), *reader.problems),
    )
    if not reader.found:
        raise StoreError(f"{folder} holds no record of a run: give the run folder that `python run.py` printed.")
    return record


def _changes(folder: Path) -> list[str]:
    """A sentence per file that is not what the run wrote, also logged: a page is no place to look for that first."""
    try:
        changed = changed_files(folder)
    except StoreError as error:
        found = [str(error)]
    else:
        found = [f"{name} is not what the run wrote (receipt.json holds another checksum)." for name in changed[:5]]
        found += [f"{len(changed) - 5} more files are not, either."] if len(changed) > 5 else []
    for sentence in found:
        log.warning("%s: %s", folder, sentence)
    return found


class _Reader:
    """Turns the errors of one file into a sentence, and remembers whether any file was there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self.found = False
        self.optional: tuple[str, ...] = ()
        """Files whose absence is no problem."""

    def read(self, name: str, decode: Callable[[bytes], T], default: T) -> T:
        if not (self.folder / name).is_file():
            self.problems += [] if name in self.optional else [f"{name} is missing."]
            return default
        self.found = True
        try:
            return decode(own_file(self.folder, name).read_bytes())
        except Exception as error:  # the readers of JSON, YAML and zip archives have a dozen between them
            why = "it is nested too deeply" if isinstance(error, RecursionError) else reason(error)
            self.problems.append(f"{name} cannot be read ({why}).")
        return default

    def gallery(self, content: bytes) -> tuple[GalleryItem, ...]:
        """The items of gallery.json that can be read; the others are problems."""
        file, problems = GalleryFile.readable(content)
        self.problems += problems
        return file.items


def _settings(content: bytes) -> dict[str, Any]:
    settings = yaml.safe_load(content)
    if not isinstance(settings, dict):
        raise ValueError("it holds no settings")
    return settings


def _audit(content: bytes) -> AuditFile:
    audit = AuditFile.decode(content)
    if audit.metric not in METRIC:
        raise ValueError(f"metric is {audit.metric!r}, which is none")
    return audit
