"""The data: clean and faulty expressions, distractors, duplicates, leakage, samples that failed."""

from locheads.evaluation.metric_table import METRIC, headline
from locheads.records.metrics_file import FEW_LEGEND, FEW_MARK, Slice
from locheads.records.provenance_file import GivenHeads, Repeats
from locheads.report.dossier.section import (
    Outcome,
    Section,
    Table,
    amount,
    are,
    ask,
    holds,
    share,
    unknown,
)
from locheads.report.run_record import RunRecord

NEAR = (
    "Not checked: near duplicates, such as an image that was resized or saved again. A perceptual hash of every image "
    "tells them."
)
TRAINED_ON = (
    "Not recorded: whether the model was trained on the evaluated images or expressions. The model's authors tell what "
    "it was trained on; compare that with the data set."
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
        how = "Name a review by dataset.review (docs/data.md, reviewed expressions), or read a random sample of them."
        return [unknown("No review of the expressions was at hand.")], [
            f"Not checked: whether expressions fit no object or several, or whether true boxes are wrong. {how}"
        ]
    total, faulty, unread = sum(n.values()), n.get("faulty", 0), n.get("unknown", 0)
    told = f"A review flags {faulty:,} of {amount(total, 'expression')}{share(faulty, total)} as faulty."
    found = [ask(told) if faulty else holds(told)]
    left = [f"It does not speak of {amount(unread, 'expression')}."] if unread else []
    return found + list(map(ask, left)), [told, *left]


def _distractors(parts: list[Slice]) -> list[str]:
    total, unread = sum(part.n_expressions for part in parts), {part.name: part.n_expressions for part in parts}
    if not parts:
        return ["Not recorded: distractors, that is, other objects in the image that an expression might mean."]
    alone, left = unread.get("0", 0), unread.get("unknown", 0)
    told = [
        f"Of {amount(total, 'expression')}, {alone:,}{share(alone, total)} have no distractor, that is, no other object "
        "in the image that they might mean."
    ]
    return told + ([f"Of {amount(left, 'expression')} it is not recorded."] if left else [])


def _by(caption: str, record: RunRecord, parts: list[Slice]) -> Table:
    there = [METRIC[key] for key in headline(record.metrics.measured)] if record.metrics else []
    there = [metric for metric in there if any(metric.key in part.metrics for part in parts)]
    rows = []
    for part in parts:
        found = [part.metrics.get(metric.key) for metric in there]
        cells = ["not measured" if one is None else one.text(m.unit) for one, m in zip(found, there, strict=True)]
        rows.append((part.name, f"{part.n_expressions:,}", f"{part.n_images:,}", *cells))
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
    outcomes, sentences = _images_twice(found)
    words = _words_twice(found)
    clear = holds("No evaluated expression occurs twice.")
    return Section("Duplicates", (*outcomes, *(map(ask, words) if words else [clear])),
                   (*sentences, *(words or [clear.text]), NEAR))  # fmt: skip


def _images_twice(found: Repeats) -> tuple[list[Outcome], list[str]]:
    if found.images is None:
        told = "Not checked: whether evaluated images occur twice. The run did not read the images; compare their sha256."
        return [unknown("Whether evaluated images occur twice.")], [told]
    if not found.images:
        told = "No evaluated image occurs twice: the sha256 of their files all differ."
        return [holds(told)], [told]
    told = (
        f"{amount(found.images, 'evaluated image')} {are(found.images)} the same file as an earlier one to the byte: "
        "what is said of images as independent is too narrow."
    )
    return [ask(told)], [told]


def _words_twice(found: Repeats) -> list[str]:
    told, n = [], found.expressions
    if n:
        told.append(f"{amount(n, 'expression')} {'repeats' if n == 1 else 'repeat'} an earlier one: same image, same object, same words.")
    if n := found.ambiguous:
        told.append(
            f"{amount(n, 'expression')} {'has' if n == 1 else 'have'} words that also name another object of the same "
            "image: no answer can be right for both."
        )  # fmt: skip
    return told


def leakage(record: RunRecord) -> Section:
    """Whether an image that the heads were found on is among the evaluated ones."""
    if record.provenance.heads is not None:
        outcomes, sentences, tables = _given(record.provenance.heads)
    elif not record.about_heads:
        told = "The run chose no heads, so that nothing can leak from discovery."
        outcomes, sentences, tables = [holds(told)], [told], []
    else:
        outcomes, sentences, tables = _guarded(record)
    return Section("Leakage", (*outcomes, unknown("Whether the model was trained on the evaluated data.")),
                   (*sentences, TRAINED_ON), tuple(tables))  # fmt: skip


_Found = tuple[list[Outcome], list[str], list[Table]]


def _given(heads: GivenHeads) -> _Found:
    where = " ".join(heads.found_on) if heads.found_on else "data that the set does not name"
    told = f"The heads were given ({heads.set}, {heads.source}) and found on {where}; leakage: {heads.leakage}."
    how = "Compare the images that they were found on, where these are known, with the evaluated ones."
    return [unknown("Whether the given heads were found on evaluated images.")], [told, how], []


def _guarded(record: RunRecord) -> _Found:
    guard = dict(record.provenance.dataset.guard) or (dict(record.samples.guard) if record.samples else {})
    if not guard:
        told = "Not recorded: whether discovery saw evaluated images. Make the run again: provenance.json tells it."
        return [unknown("Whether discovery saw evaluated images.")], [told], []
    left = record.samples.n_excluded_images if record.samples else None
    outcomes, sentences = [holds("The guard kept every evaluated image out of discovery.")], [
        f"The guard (dataset.guard) keeps every image out of discovery that the evaluated split or a guarded file also "
        f"holds, compared by COCO's id where a name tells it, else by the image's own id. It left out "
        f"{'a number of images that is not recorded' if left is None else amount(left, 'image')}."
    ]
    if len(guard) == 1:
        told = "Not checked: other evaluated splits. dataset.guard names files that discovery must not share images with."
        outcomes, sentences = [*outcomes, unknown("Only the evaluated split itself was guarded.")], [*sentences, told]
    of_content = _by_content(record.samples.repeats if record.samples else None)
    table = Table("Images of the discovery split that were also in it, and were left out", ("Guarded", "Images"),
                  tuple((name, f"{n:,}") for name, n in guard.items()))  # fmt: skip
    return [*outcomes, of_content], [*sentences, of_content.text], [table]


def _by_content(found: Repeats | None) -> Outcome:
    if found is None or found.seen_images is None:
        return unknown("Not checked: whether discovery saw an evaluated image under another name.")
    if found.seen_images:
        n = amount(found.seen_images, "image")
        return ask(f"{n} that discovery or a calibration saw {are(found.seen_images)} an evaluated one to the byte.")
    return holds("No image that discovery or a calibration saw is an evaluated one to the byte (sha256 of the files).")


def failures(record: RunRecord) -> Section:
    """Samples that could not be processed, and those without an answer."""
    outcomes, sentences, tables = _evaluated_failures(record)
    if record.heads is not None:
        n = record.heads.n_failed
        told = f"{amount(n, 'discovery sample')} failed."
        sentences.append(told)
        outcomes += [ask(told)] if n else []
    elif record.about_heads and record.provenance.heads is None:
        sentences.append("Not recorded: discovery samples that failed (heads.json is missing or broken).")
    return Section("Samples that failed", tuple(outcomes), tuple(sentences), tuple(tables))


def _evaluated_failures(record: RunRecord) -> _Found:
    if (metrics := record.metrics) is None:
        if (audit := record.audit) is not None:
            told = f"{amount(audit.n_failed, 'sample')} of the audit failed."
            return [ask(told) if audit.n_failed else holds(told)], [told], []
        told = "Not recorded: evaluated samples that failed (metrics.json is missing or broken)."
        return [unknown("Whether evaluated samples failed.")], [told], []
    told = (
        f"Of {amount(metrics.n_expressions, 'expression')}, {metrics.n_failed:,} failed and {metrics.n_empty:,} got no "
        "answer. They are among the scored ones, not left out."
    )
    found = holds(told) if not (metrics.n_failed or metrics.n_empty) else ask(told)
    missing = [f"{metrics.n_missing:,} of them are not in the file of predictions."] if metrics.n_missing else []
    reasons = metrics.boxes.reasons().strip() if metrics.boxes else ""
    missing += [f"Answers without a box, by reason: {reasons.strip('()')}."] if reasons else []
    rows = tuple((sample.sample_id, sample.reason) for sample in metrics.failed)
    if metrics.n_failed and not rows:
        missing.append("Not recorded: which samples failed, and why; the file of predictions has it in its column error.")
    first = "All of them" if len(rows) == metrics.n_failed else f"The first {len(rows)}"
    tables = [Table(f"{first}, with the reason", ("Sample", "Reason"), rows)] if rows else []
    return [found], [told, *missing], tables
