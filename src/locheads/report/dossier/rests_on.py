"""The methods in words and the files with their checksums, as sections."""

from locheads.report.dossier import artifacts as files
from locheads.report.dossier.methods import methods
from locheads.report.dossier.section import Section, Table
from locheads.report.run_record import RunRecord

WHEN = (
    "The sha256 of a file is that of its bytes when this dossier was made; receipt.json of the run folder has those of "
    "all files as the run wrote them."
)


def method(record: RunRecord) -> Section:
    """How the run worked, from its settings: a sentence for each."""
    if not record.config:
        return Section("Methods", sentences=("Not recorded: settings (config.yaml is missing or broken).",))
    return Section("Methods", paragraphs=tuple((p.title, " ".join(p.sentences)) for p in methods(record)))


def artifacts(record: RunRecord) -> Section:
    """What the figures rest on, with what identifies it."""
    found = files.artifacts(record)
    sentences = [f"{one.name}: {one.problem}" for one in found if one.problem]
    table = Table(
        "What the figures rest on",
        ("Name", "What it is", "sha256, or what stands for it"),
        tuple((one.name, one.what, one.identity) for one in found),
        words=True,
    )
    return Section("Artifacts", sentences=(WHEN, *sentences), tables=(table,))
