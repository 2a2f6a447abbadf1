"""What a figure rests on, with its digest: the run's files as they are now, and what the run recorded of its model,
data, store and code."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from locheads.errors import StoreError
from locheads.records.receipt_file import PAGES, RECEIPT, ReceiptFile, read_receipt
from locheads.records.record_base import own_file
from locheads.report.facts import UNKNOWN
from locheads.report.run_record import RunRecord
from locheads.store.digest import file_digest
from locheads.text import markdown_text, reason

FILES = {
    "config.yaml": "all settings",
    "overrides.yaml": "the settings of the command line",
    "provenance.json": "code, versions, machine, model, data",
    "samples.json": "which samples were used",
    "heads.json": "the localization heads, with what they were chosen from",
    "stability.json": "the heads that fewer samples lead to",
    "predictions.parquet": "the run's own answers, a row per expression",
    "first_look.parquet": "the answers of the first look",
    "baselines.parquet": "the answers of the baselines",
    "answers.parquet": "the model's answers in words",
    "scores.parquet": "the scores of every answer",
    "metrics.json": "the figures with their intervals",
    "zoom.json": "what further looks changed",
    "audit.json": "what other choices do",
    "status.json": "how the run ended",
    "timing.json": "time and memory of the passes",
    RECEIPT: "the checksums that the run wrote of all of its files",
}
"""File of a run folder -> what it is."""


CHANGING = ("overrides.yaml", "status.json", RECEIPT)
"""Files that are written anew once the pages are there, or that belong to the folder and not to the result in it."""


@dataclass(frozen=True)
class Artifact:
    """One thing that a figure rests on."""

    name: str
    what: str
    sha256: str | None
    """Of a file: of the bytes that are there now; of what the record names by a digest: that digest."""
    version: str | None = None
    """Of what has no sha256: a commit, a revision, a version, or a store's key."""
    problem: str = ""
    """A sentence where it is not what the run wrote, or cannot be checked or read."""

    @property
    def identity(self) -> str:
        """The one of both that there is."""
        return self.sha256 or self.version or UNKNOWN


def artifacts(record: RunRecord) -> tuple[Artifact, ...]:
    """Files first, then what the run recorded. What is damaged, changed, lost or not recorded is said."""
    return (*_files(record), *_recorded(record), *_versions(record))


def lasting_artifacts(record: RunRecord) -> tuple[Artifact, ...]:
    """The files that stay as they are from the run's last page on, and what the run recorded, but for versions: the
    same as soon as the pages are made and ever after. The receipt, which is written last, is not looked at: what is
    not as the run wrote it is among the record's problems."""
    names = [name for name in FILES if name not in CHANGING and (record.folder / name).exists()]
    return (*(_file(record, name, None, "") for name in names), *_recorded(record))


def markdown(found: tuple[Artifact, ...]) -> str:
    """A table, a row each."""
    rows = [("name", "what it is", "sha256, or what stands for it", "to know"), ("---",) * 4]
    rows += [(one.name, one.what, one.identity, one.problem) for one in found]
    return "".join(
        f"| {' | '.join(cell if cell == '---' else markdown_text(cell) for cell in row)} |\n" for row in rows
    )


# Files of the run folder.


def _files(record: RunRecord) -> Iterator[Artifact]:
    written: dict[str, str] = {}
    unchecked = "it cannot be checked, because the folder has no receipt.json"
    try:
        receipt: ReceiptFile | None = read_receipt(record.folder)
    except StoreError:
        receipt, unchecked = None, "it cannot be checked, because receipt.json is damaged"
    if receipt is not None:
        written, unchecked = receipt.files, "receipt.json does not name it"
    own = [name for name in written if len(PurePosixPath(name).parts) == 1 and name not in PAGES]
    for name in dict.fromkeys((*FILES, *sorted(own))):
        if (record.folder / name).exists() or name in written or f"{name} is missing." in record.problems:
            yield _file(record, name, written.get(name), "" if name == RECEIPT and receipt else unchecked)
    yield from _folders(record, written)


def _file(record: RunRecord, name: str, written: str | None, unchecked: str) -> Artifact:
    """One file of the run folder, as it is now and as the run wrote it."""
    what = FILES.get(name, "a further record of the run")
    try:
        digest = file_digest(own_file(record.folder, name))
    except FileNotFoundError:
        return Artifact(name, what, None, problem=f"It is missing{f'; the run wrote {written}' if written else ''}.")
    except OSError as error:
        return Artifact(name, what, None, problem=f"It cannot be read ({reason(error)}).")
    problems = [p for p in record.problems if p.startswith(f"{name} cannot be read")]
    if written is None:
        problems += [f"{name}: {unchecked}."] if unchecked else []
    elif digest != written:
        problems.insert(0, f"It is not what the run wrote, whose sha256 is {written}.")
    return Artifact(name, what, digest, problem=" ".join(problems))


def _folders(record: RunRecord, written: dict[str, str]) -> Iterator[Artifact]:
    """The folders of images: how many files, and which of them are not what the run wrote."""
    inside: dict[str, list[str]] = {}
    for name in written:
        if len(parts := PurePosixPath(name).parts) > 1:
            inside.setdefault(parts[0], []).append(name)
    for folder, names in sorted(inside.items()):
        bad = [artifact for name in names if (artifact := _file(record, name, written[name], "")).problem]
        problem = f"{len(bad)} of them are not what the run wrote, such as {bad[0].name}." if bad else ""
        yield Artifact(f"{folder}/", f"{len(names)} files for the pages, named in {RECEIPT}", None,
                       f"see {RECEIPT}", problem)  # fmt: skip


# What the run recorded.


def _recorded(record: RunRecord) -> Iterator[Artifact]:
    provenance, data = record.provenance, record.provenance.dataset
    yield Artifact("run", "digest of all that can change the result", provenance.digest)
    for name, made in (("attention store", provenance.maps), ("store of answers", provenance.answers)):
        if made is not None:
            changed = f"It was made with other versions: {made.other_versions}." if made.other_versions else ""
            yield Artifact(name, "first letters of its key's sha256", None, made.store, changed)
    if not record.external:
        yield from _model(provenance.model)
    if provenance.predictions is not None:
        file = str(provenance.predictions.get("file"))
        yield Artifact(file, "the file that was scored", provenance.predictions.get("sha256"))
    name = data.name or str(record.setting("dataset.name", UNKNOWN))
    yield Artifact(f"{name}: annotations", "data set", data.annotations_sha256)
    yield Artifact(f"{name}: images", "data set, the images that were read", data.pictures_sha256)
    yield from _code(record)


def _model(model: dict[str, Any]) -> Iterator[Artifact]:
    weights, revision, name = model.get("weights"), model.get("revision"), str(model.get("id", UNKNOWN))
    is_digest = isinstance(weights, str) and len(weights) == 64
    of_hub = "the commit of the hub's snapshot"
    yield Artifact(f"{name}: revision", "model", None, revision or "not pinned")
    yield Artifact(f"{name}: weights", f"model, {'over the weight files' if is_digest else of_hub}",
                   weights if is_digest else None, None if is_digest else weights)  # fmt: skip


def _code(record: RunRecord) -> Iterator[Artifact]:
    provenance = record.provenance
    problem = "The code had uncommitted changes." if provenance.dirty else ""
    yield Artifact("code: commit", "git", None, provenance.commit, problem)
    if provenance.diff_sha256:
        yield Artifact("code: difference", "what git diff showed of uncommitted changes", provenance.diff_sha256)
    yield Artifact("code: source files", "over the package's own files", provenance.source_sha256)


def _versions(record: RunRecord) -> Iterator[Artifact]:
    for name, version in record.provenance.versions.items():
        if version is not None:
            yield Artifact(name, "version", None, version)
