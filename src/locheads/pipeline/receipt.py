"""A finished run's receipt: what it was made from and the checksums of its files, so that a sweep need not do it again.

A run is taken over only where its settings, the model's and the data's digests, the images' bytes, the package's
source and the versions of what it stands on are the same, no sample failed, and every file is intact. Its files are
linked, so the sweep's folder is complete by itself.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from locheads.config import Config
from locheads.dotted import source_digests
from locheads.errors import StoreError
from locheads.pipeline.inputs import Inputs
from locheads.records.receipt_file import (
    RECEIPT,
    DoneBeforeFile,
    ReceiptFile,
    TrackerFile,
    digest_if_there,
    read_receipt,
)
from locheads.store.digest import file_digest, json_digest
from locheads.store.provenance import source_digest, versions

log = logging.getLogger(__name__)

OVERRIDES, DONE_BEFORE, TRACKER = "overrides.yaml", DoneBeforeFile.FILE, TrackerFile.FILE
UNCHECKED = {RECEIPT, TRACKER, "run.log"}
"""Files of a run folder that may change after its run."""
OWN = {OVERRIDES, DONE_BEFORE}
"""What belongs to a run folder itself, not to the result in it."""
ELSEWHERE = ("paths", "tracker", "study", "fresh", "report")
"""Settings that say where results go, and whether pages are made, which can be made later. `engine` is not among them:
who sweeps over it wants to compare times."""


def receipt_key(config: Config, digest: str, inputs: Inputs) -> dict[str, str]:
    """All that has to be the same for a run to count as done. `digest`: of the run, see `run_digest`."""
    settings = {key: value for key, value in asdict(config).items() if key not in ELSEWHERE}
    return {
        "digest": digest,
        "settings": json_digest(settings),
        "pictures": inputs.images_digest or "not read",
        "code": json_digest([source_digest(), versions(), *([own] if (own := source_digests(settings)) else [])]),
    }


def write_receipt(folder: Path, key: dict[str, str], n_failed: int) -> None:
    """At the very end of a run. `n_failed`: samples without attention, which another attempt might mend."""
    files = {str(path.relative_to(folder)): file_digest(path) for path in sorted(_results(folder))}
    ReceiptFile(key=key, n_failed=n_failed, files=files).write(folder)


def find_done(study: Path, key: dict[str, str]) -> Path | None:
    """The newest run in a study's folder, or in a sweep's in it, that need not be done again."""
    receipts = [*study.glob(f"*/{RECEIPT}"), *study.glob(f"*/*/{RECEIPT}")]
    other = None
    for path in sorted(receipts, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        if (receipt := _readable_receipt(path.parent)) is None:
            continue
        if receipt.key == key and receipt.n_failed == 0 and _intact(path.parent, receipt):
            return path.parent
        if receipt.key != key and receipt.key.get("settings") == key["settings"]:
            other = other or (path.parent, _difference(receipt.key, key))
    if other is not None:
        log.info("%s has the same %s: running again.", *other)
    return None


def _difference(earlier: dict[str, str], current: dict[str, str]) -> str:
    """In words, of two keys with the same settings. The digest differs in all of these cases."""
    if earlier.get("pictures") != current["pictures"]:
        return "settings, but other images"
    if earlier.get("code") != current["code"]:
        return "settings and data, but other code or packages"
    return "settings, but other weights, annotations or maps"


def take_over(done: Path, folder: Path) -> None:
    """Makes `folder` hold the result of the run in `done`."""
    receipt = read_receipt(done)
    assert receipt is not None  # `find_done` has read it
    files = {name: digest for name, digest in receipt.files.items() if name not in OWN}
    # status.json says that the run is complete, so it comes last.
    for name in sorted(files, key=lambda name: name == "status.json"):
        _link(done / name, folder / name)
    if (done / TRACKER).exists():
        _link(done / TRACKER, folder / TRACKER)
    before = DoneBeforeFile.read_if_there(done)
    origin = str(done) if before is None else before.folder
    DoneBeforeFile(folder=origin, key=receipt.key).write(folder)
    own = {name: file_digest(folder / name) for name in OWN if (folder / name).exists()}
    receipt.model_copy(update={"files": files | own}).write(folder)
    log.info("Done before, with the same settings, code and data, in %s.", origin)


def _results(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and parts[0] not in UNCHECKED | {"wandb"} and not path.name.startswith("."):
            yield path


def _readable_receipt(folder: Path) -> ReceiptFile | None:
    """None for a damaged one, which is logged."""
    try:
        return read_receipt(folder)
    except StoreError as error:
        log.warning("%s", error)
        return None


def _intact(folder: Path, receipt: ReceiptFile) -> bool:
    """Whether every file of the receipt is there as the run wrote it; what is not is logged."""
    changed = [name for name, digest in receipt.files.items() if digest_if_there(folder / name) != digest]
    if changed:
        log.warning("%s is run again: its %s is not what the run wrote (and %d more files).",
                    folder, changed[0], len(changed) - 1)  # fmt: skip
    return not changed


def _link(source: Path, target: Path) -> None:
    """A second name for the same file, which nobody changes in place; a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.taken-over")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copy2(source, temporary)
    os.replace(temporary, target)
