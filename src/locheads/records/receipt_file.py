"""A run folder that is read back: are its files still what the run wrote? Its receipt.json holds their checksums.

A folder without a receipt (the run was interrupted, or is of before there were receipts) can be read; its files cannot
be checked then. Pages can be made again from the records at any time, so they are not what anything is judged by; who
writes one anew renews its checksum.
"""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import ClassVar

from pydantic import Field, StrictBool, field_validator

from locheads.errors import StoreError
from locheads.records.record_base import Count, Record
from locheads.store.digest import file_digest
from locheads.text import reason

RECEIPT = "receipt.json"
PAGES = (
    "report.html", "explorer.html", "dossier/dossier.html", "dossier/dossier.md", "dossier/methods.tex",
    "dossier/tables.tex",
)  # fmt: skip


class ReceiptFile(Record):
    """receipt.json of a finished run."""

    FILE: ClassVar[str] = RECEIPT
    CHECKSUM: ClassVar[bool] = True

    key: dict[str, str] = Field(default_factory=dict)
    """All that has to be the same for another run to count as the same one; empty for a scored file."""
    n_failed: Count | None = None
    """Samples without attention, which another attempt might mend."""
    files: dict[str, str]
    """Name in the run folder -> sha256."""

    @field_validator("files")
    @classmethod
    def _check_names(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"names {name}, which does not lie in the run folder")
        return files


class DoneBeforeFile(Record):
    """done_before.json: of which earlier run this one took the result over."""

    FILE: ClassVar[str] = "done_before.json"

    folder: str
    key: dict[str, str]


class TrackerFile(Record):
    """tracker.json: which W&B run has the result."""

    FILE: ClassVar[str] = "tracker.json"

    id: str
    project: str
    entity: str | None
    group: str | None
    mode: str | None = None
    url: str | None = None
    folder: str | None = None
    """Of what W&B logged here."""
    complete: StrictBool = False
    """Whether W&B has all of it."""


class SweepFile(Record):
    """sweep.json in a sweep's folder: what its runs share."""

    FILE: ClassVar[str] = "sweep.json"
    CHECKSUM: ClassVar[bool] = True

    overrides: tuple[str, ...]
    id: str
    """That of the same command another day."""
    jobs: Count = 1


def read_receipt(folder: Path) -> ReceiptFile | None:
    """The receipt of a run folder; None where it has none. Raises StoreError where it is damaged."""
    path = folder / RECEIPT
    try:
        return ReceiptFile.decode(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} is damaged ({reason(error)}), so the run's files cannot be checked: run it "
            f"again, or delete {RECEIPT} to take them as they are."
        ) from error


def changed_files(folder: Path, names: Iterable[str] | None = None) -> list[str]:
    """Those files that are there but not as the run wrote them; none where the folder has no receipt.

    Args:
        folder: of the run.
        names: of the files to look at, relative to it; None: all that the receipt names, but pages.

    Raises:
        StoreError: the receipt is damaged.
    """
    receipt = read_receipt(folder)
    if receipt is None:
        return []
    files = receipt.files
    names = [name for name in files if name not in PAGES] if names is None else names
    return [name for name in names if (folder / name).exists() and digest_if_there(folder / name) != files.get(name)]


def refuse_changed(folder: Path, names: Iterable[str]) -> bool:
    """-> whether the files could be checked, that is, whether there is a receipt.

    Raises:
        StoreError: one of the files is not what the run wrote, or the receipt is damaged.
    """
    if changed := changed_files(folder, names):
        are = "is" if len(changed) == 1 else "are"
        raise StoreError(
            f"{_listed(changed)} of {folder} {are} not what the run wrote ({RECEIPT} has another checksum): run it "
            f"again, or delete {RECEIPT} to take the folder as it is."
        )
    return (folder / RECEIPT).exists()


def renew_pages(folder: Path) -> None:
    """Puts the pages that are there now into the receipt, if there is one. Raises StoreError."""
    receipt = read_receipt(folder)
    if receipt is not None:
        renewed = {name: digest for name in PAGES if (digest := digest_if_there(folder / name))}
        receipt.model_copy(update={"files": receipt.files | renewed}).write(folder)


def digest_if_there(path: Path) -> str | None:
    """sha256 of a file; None where it cannot be read."""
    try:
        return file_digest(path)
    except OSError:
        return None


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more files" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
