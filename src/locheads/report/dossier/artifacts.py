"""What a figure rests on, with its digest: the run's files as they are now, and what the run recorded of its model,
data, store and code."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from locheads.records.record_base import own_file
from locheads.report.facts import UNKNOWN
from locheads.report.run_record import RunRecord
from locheads.store.digest import file_digest
from locheads.text import reason

FILES = {
    "config.yaml": "all settings",
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
    "timing.json": "time and memory of the passes",
}
"""File of a run folder -> what it is. Left out are those that are written anew once the pages are there, or that belong
to the folder and not to the result in it."""


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
    """Sentences where it is not what the run wrote, or cannot be read."""

    @property
    def identity(self) -> str:
        """The one of both that there is."""
        return self.sha256 or self.version or UNKNOWN


def artifacts(record: RunRecord) -> tuple[Artifact, ...]:
    """The files that stay as they are from the run's last page on, and what the run recorded: the same as soon as the
    pages are made and ever after. The receipt, which is written last, is not looked at: what is not as the run wrote it
    is among the record's problems."""
    names = [name for name in FILES if (record.folder / name).exists()]
    return (*(_file(record, name) for name in names), *_recorded(record))


def _file(record: RunRecord, name: str) -> Artifact:
    try:
        digest = file_digest(own_file(record.folder, name))
    except OSError as error:
        return Artifact(name, FILES[name], None, problem=f"It cannot be read ({reason(error)}).")
    problems = [problem for problem in record.problems if problem.startswith(name)]
    return Artifact(name, FILES[name], digest, problem=" ".join(problems))


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
