"""Clean and faulty expressions by a review, distractors, and what occurs twice."""

from locheads.evaluation.metric_table import METRIC, headline
from locheads.records.metrics_file import FEW_LEGEND, FEW_MARK, Slice
from locheads.records.provenance_file import Repeats
from locheads.report.dossier.section import Outcome, Section, Table, amount, ask, holds, measured_texts, share, unknown
from locheads.report.run_record import RunRecord

NO_REVIEW = (
    "Not checked: whether expressions fit no object or several, or whether true boxes are wrong. Name a review by "
    "dataset.review (docs/data.md, reviewed expressions), or read a random part of them."
)
NEAR = (
    "Not checked: near duplicates, such as an image that was resized or saved again. A perceptual hash of every image "
    "tells them."
)


def expressions(record: RunRecord) -> Section:
    """By a review, and by the number of other objects that an expression might mean."""
    reviewed, others = _slices(record, "review"), _slices(record, "distractors")
    outcomes, sentences = _review(reviewed)
    tables = [_by("By the review", record, reviewed), _by("By the number of distractors", record, others)]
    return Section(
        "Clean and faulty expressions",
        tuple(outcomes),
        (*sentences, *_distractors(others), *_legend(reviewed + others)),
        tuple(table for table in tables if table.rows),
    )


def _slices(record: RunRecord, by: str) -> list[Slice]:
    return [part for part in record.metrics.slices if part.by == by] if record.metrics else []


def _review(parts: list[Slice]) -> tuple[list[Outcome], list[str]]:
    n = {part.name: part.n_expressions for part in parts}
    if not n.keys() & {"clean", "faulty"}:
        return [unknown("Which expressions are faulty: no review was at hand.")], [NO_REVIEW]
    total, faulty, unread = sum(n.values()), n.get("faulty", 0), n.get("unknown", 0)
    told = f"A review flags {faulty:,} of {amount(total, 'expression')}{share(faulty, total)} as faulty."
    left = [f"The review does not speak of {amount(unread, 'expression')}."] if unread else []
    return [ask(told) if faulty else holds(told), *map(ask, left)], [told, *left]


def _distractors(parts: list[Slice]) -> list[str]:
    if not parts:
        return ["Not recorded: distractors, that is, other objects in the image that an expression might mean."]
    n = {part.name: part.n_expressions for part in parts}
    total, alone, left = sum(n.values()), n.get("0", 0), n.get("unknown", 0)
    told = (
        f"Of {amount(total, 'expression')}, {alone:,}{share(alone, total)} have no distractor: the image has no other "
        "object that they might mean."
    )
    return [told, *([f"Not recorded: the distractors of {amount(left, 'expression')}."] if left else [])]


def _by(caption: str, record: RunRecord, parts: list[Slice]) -> Table:
    there = [METRIC[key] for key in headline(record.metrics.measured)] if record.metrics else []
    there = [metric for metric in there if any(metric.key in part.metrics for part in parts)]
    rows = []
    for part in parts:
        figures = measured_texts(there, part.metrics)
        rows.append((part.name, f"{part.n_expressions:,}", f"{part.n_images:,}", *figures))
    headings = ("Slice", "Expressions", "Images", *(metric.label for metric in there))
    return Table(f"{caption}, of the run's own method", headings, tuple(rows))


def _legend(parts: list[Slice]) -> list[str]:
    marked = any(FEW_MARK in estimate.mark for part in parts for estimate in part.metrics.values())
    return [FEW_LEGEND] if marked else []


def duplicates(record: RunRecord) -> Section:
    """Images and expressions that occur twice among the evaluated ones."""
    found = record.samples.repeats if record.samples else None
    if found is None:
        told = "Not recorded: whether images or expressions occur twice. Make the run again: samples.json tells it."
        return Section("Duplicates", (unknown("Whether images or expressions occur twice."),), (told, NEAR))
    of_images, of_words = _images_twice(found), _words_twice(found)
    return Section("Duplicates", (of_images[0], *of_words), (of_images[1], *(one.text for one in of_words), NEAR))


def _images_twice(found: Repeats) -> tuple[Outcome, str]:
    if found.images is None:
        told = "Not checked: whether images occur twice. The run did not read them; compare the sha256 of their files."
        return unknown("Whether evaluated images occur twice."), told
    if not found.images:
        told = "No evaluated image occurs twice: the sha256 of their files all differ."
        return holds(told), told
    told = f"Evaluated images that are an earlier one to the byte, but count as independent: {found.images:,}."
    return ask(told), told


def _words_twice(found: Repeats) -> list[Outcome]:
    told = []
    if n := found.expressions:
        told.append(f"Expressions that repeat an earlier one (same image, same object, same words): {n:,}.")
    if n := found.ambiguous:
        told.append(f"Expressions whose words also name another object of the same image: {n:,}.")
    return [*map(ask, told)] or [holds("No expression occurs twice about one image.")]
