"""The sections of a dossier in their order, and its first list."""

from collections.abc import Sequence

from locheads.report.dossier.answers import coordinates, verification
from locheads.report.dossier.expressions import duplicates, expressions
from locheads.report.dossier.failures import failures
from locheads.report.dossier.heads import support, words
from locheads.report.dossier.leakage import leakage
from locheads.report.dossier.origin import notes, origin
from locheads.report.dossier.rests_on import artifacts, method
from locheads.report.dossier.section import Outcome, Section, Standing, Subject
from locheads.report.dossier.subject import evaluated, figures
from locheads.report.run_record import RunRecord

SUBJECTS: tuple[Subject, ...] = (
    evaluated, figures, expressions, duplicates, leakage, failures, coordinates, verification, words, support, notes,
    origin, method, artifacts,
)  # fmt: skip


def sections(record: RunRecord) -> tuple[Section, ...]:
    """Every subject, also where the run says nothing of it: then the section says so."""
    return tuple(subject(record) for subject in SUBJECTS)


def outcomes(found: Sequence[Section]) -> dict[Standing, list[tuple[Outcome, Section]]]:
    """The first list: by standing, in the order of the sections, each with the section that it comes from."""
    pairs = [(outcome, section) for section in found for outcome in section.outcomes]
    return {standing: [pair for pair in pairs if pair[0].standing == standing] for standing in Standing}


def title(record: RunRecord) -> str:
    """What the dossier is of."""
    model = record.external or record.setting("model.name") or "an unrecorded model"
    data = record.setting("dataset.name") or "an unrecorded data set"
    return " ".join(["Dossier:", str(model), "on", str(data), str(record.setting("dataset.split", ""))]).strip()
