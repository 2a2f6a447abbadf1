"""Which runs a study joins: every run folder below the given ones that measured something or failed at it."""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locheads.errors import StoreError
from locheads.records.heads_file import StabilityFile
from locheads.records.provenance_file import ProvenanceFile, TimingFile
from locheads.records.receipt_file import refuse_changed
from locheads.report.run_record import RunRecord, read_run

log = logging.getLogger(__name__)

STAGES = ("discover", "ground", "evaluate", "report", "direct")
"""Stages whose runs take part."""
READ = ("config.yaml", "overrides.yaml", "provenance.json", "status.json", "heads.json", "metrics.json", "audit.json",
        "timing.json", "stability.json", "zoom.json")  # fmt: skip
"""Files that a study's figures and labels come from."""


@dataclass(frozen=True)
class StudyRun(RunRecord):
    """One run, with the records that only studies read, and without its samples' images."""

    timing: TimingFile | None = None
    stability: StabilityFile | None = None
    part: dict[str, Any] = field(default_factory=dict)
    """What tells it from the other rows of the same run, where a run has several."""

    @property
    def predictions(self) -> str | None:
        """The name of the file of predictions that was scored, without its ending; None where a model answered."""
        return Path(self.setting("predictions")).stem if self.setting("predictions") else None

    @property
    def error(self) -> str | None:
        """Why it has no result; None where it is done."""
        if self.status is not None and self.status.state == "done":
            return None
        error = (self.status and self.status.error) or "it did not finish: see its run.log"
        return " ".join(error.split())


def find_runs(folders: Iterable[str]) -> list[StudyRun]:
    """The runs below the folders, oldest first, each once.

    Raises StoreError where a folder is not there, none holds a run, or a run's files are not what it wrote.
    """
    found: dict[Path, StudyRun] = {}
    unchecked = set()
    folders = list(folders)
    for name in folders:
        if not Path(name).is_dir():
            raise StoreError(f"runs: {name} is not a folder: give folders of finished runs, or of sweeps.")
        for folder in _run_folders(Path(name)):
            checked = refuse_changed(folder, READ)
            run = _read(folder)
            if run.setting("stage") in STAGES and not run.setting("runs"):
                found.setdefault(folder.resolve(), run)
                unchecked |= set() if checked or run.error else {folder}
    if not found:
        raise StoreError(f"runs: there is no run in {', '.join(folders)}: give the folders that python run.py printed.")
    if unchecked:
        log.warning("%d of %d runs have no receipt.json, so their files cannot be checked; the first is %s.",
                    len(unchecked), len(found), min(unchecked))  # fmt: skip
    return sorted(found.values(), key=lambda run: (run.provenance.started or "", run.folder.name))


def _run_folders(root: Path) -> Iterator[Path]:
    """A run folder holds no other, so what is in it (images, W&B files) is not looked through."""
    for path, folders, files in os.walk(root):
        if "config.yaml" in files and "overrides.yaml" in files:
            folders.clear()
            yield Path(path)
        folders.sort()


def _read(folder: Path) -> StudyRun:
    record = read_run(folder)
    if broken := [problem for problem in record.problems if problem.startswith(f"{ProvenanceFile.FILE} cannot")]:
        raise StoreError(f"{folder}: {broken[0][:-1]}: it says whose heads these are, so run it again.")
    own = {"timing": TimingFile.read_if_there(folder), "stability": StabilityFile.read_if_there(folder)}
    return StudyRun(**vars(record) | own | {"gallery": (), "maps": {}, "steps": {}})
