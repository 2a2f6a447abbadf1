"""Leakage: whether the heads, or the model, have seen what is evaluated."""

from locheads.records.provenance_file import GivenHeads, Repeats
from locheads.report.dossier.section import Outcome, Section, Table, amount, ask, holds, unknown
from locheads.report.run_record import RunRecord

TRAINED_ON = (
    "Not recorded: whether the model was trained on the evaluated images or expressions. The model's authors tell what "
    "it was trained on; compare that with the data set."
)
_Found = tuple[list[Outcome], list[str], list[Table]]


def leakage(record: RunRecord) -> Section:
    """Whether an image that the heads were found on is among the evaluated ones."""
    if record.provenance.heads is not None:
        outcomes, sentences, tables = _given(record.provenance.heads)
    elif not record.about_heads:
        told = "The run chose no heads, so that nothing can leak from discovery."
        outcomes, sentences, tables = [holds(told)], [told], []
    else:
        outcomes, sentences, tables = _guarded(record)
    trained = unknown("Whether the model was trained on the evaluated data.")
    return Section("Leakage", (*outcomes, trained), (*sentences, TRAINED_ON), tuple(tables))


def _given(heads: GivenHeads) -> _Found:
    where = " ".join(heads.found_on) if heads.found_on else "data that the set does not name"
    told = f"The heads were given ({heads.set}, {heads.source}) and found on {where}; leakage: {heads.leakage}."
    how = "Compare the images that they were found on, where these are known, with the evaluated ones."
    return [unknown("Whether the given heads were found on evaluated images.")], [told, how], []


def _guarded(record: RunRecord) -> _Found:
    samples = record.samples
    guard = dict(record.provenance.dataset.guard) or (dict(samples.guard) if samples else {})
    if not guard:
        told = "Not recorded: whether discovery saw evaluated images. Make the run again: provenance.json tells it."
        return [unknown("Whether discovery saw evaluated images.")], [told], []
    outcomes = [holds("The guard kept the ids of all evaluated images out of discovery.")]
    sentences = [_how(None if samples is None else samples.n_excluded_images)]
    if len(guard) == 1:
        outcomes.append(unknown("Whether discovery saw images of other evaluated splits: only this one was guarded."))
        sentences.append("Not checked: other evaluated splits. Name them in dataset.guard, and make the run again.")
    of_content = _by_content(samples.repeats if samples else None)
    caption = "Images of the discovery split that are also in a guarded one, and were left out"
    table = Table(caption, ("Guarded", "Images"), tuple((name, f"{n:,}") for name, n in guard.items()))
    return [*outcomes, of_content], [*sentences, of_content.text], [table]


def _how(n_excluded: int | None) -> str:
    left = "Not recorded: how many" if n_excluded is None else f"It left out {amount(n_excluded, 'image')}"
    return (
        "The guard (dataset.guard) keeps the images of the evaluated split, and of guarded files, out of discovery; "
        f"images are compared by COCO's id where a name tells it, else by the data set's own. {left}."
    )


def _by_content(found: Repeats | None) -> Outcome:
    if found is None or found.seen_images is None:
        return unknown("Not checked: whether discovery saw an evaluated image under another name.")
    if found.seen_images:
        return ask(f"Images that discovery or a calibration saw, evaluated ones to the byte: {found.seen_images:,}.")
    return holds("No image that discovery or a calibration saw is an evaluated one to the byte (sha256 of the files).")
