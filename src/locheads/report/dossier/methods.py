"""The methods of a run in plain sentences, also as LaTeX. All of it comes from the run's own records.

What a setting says stands in the `sentences_*.py`, one home each; what was found out stands here.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from locheads.config import Stage
from locheads.evaluation.metric_table import METRIC, method_label
from locheads.records.provenance_file import ProvenanceFile
from locheads.report.dossier import sentences_discovery, sentences_grounding
from locheads.report.dossier.choice import (
    ABSENT,
    ASKS_MODEL,
    GROUNDS,
    USES_HEADS,
    Choice,
    Look,
    Not,
    Only,
    Where,
    within,
)
from locheads.report.dossier.sentences_data import DATA, DIRECT, PREDICTIONS
from locheads.report.dossier.sentences_discovery import DISCOVERY, HEADS, STEERING
from locheads.report.dossier.sentences_evaluation import AUDIT, EVALUATION, MASKS, RUN
from locheads.report.dossier.sentences_grounding import ABSENCE, GROUNDING, ZOOM
from locheads.report.dossier.sentences_model import MODEL, PROMPT
from locheads.report.facts import baseline_notes
from locheads.report.interval_words import interval_words, level_of
from locheads.report.run_record import RunRecord
from locheads.report.verdict import follows_of
from locheads.text import latex_text

SILENT = {
    "dataset.folder": "where the data lies; what it is, its digest says",
    "dataset.images": "where the images lie; what they are, their digest says",
    "dataset.links": "where the images lie",
    "dataset.check_images": "only of stage=check",
    "engine.threads": "speed alone",
    "engine.token_budget": "speed alone",
    "engine.workers": "speed alone",
    "engine.processes": "speed alone",
    "engine.shard_images": "speed alone",
    "evaluation.gallery": "what is shown",
    "evaluation.show": "what is shown",
    "explorer.samples": "what is shown",
    "explorer.megabytes": "what is shown",
    "report.pages": "what is shown",
    "segmenter.batch": "speed alone",
    "shard.count": "speed alone",
    "shard.index": "speed alone",
    "shard.lease_s": "without effect",
    "tracker.kind": "where figures are logged",
    "tracker.project": "where figures are logged",
    "tracker.entity": "where figures are logged",
    "tracker.group": "where figures are logged",
    "tracker.job_type": "where figures are logged",
    "tracker.tags": "where figures are logged",
    "tracker.mode": "where figures are logged",
    "tracker.timeout": "where figures are logged",
    "paths.outputs": "where results lie",
    "paths.cache": "where results lie",
    "paths.data": "where the data lies",
    "paths.studies": "where results lie",
    "runs": "only of commands that join runs",
    "study": "where results lie",
    "fresh": "whether a run is done again",
}
"""Settings that say nothing, and why: they change no figure."""


@dataclass(frozen=True)
class Paragraph:
    """Full sentences about one part of the method; plain text, which is escaped where it is shown."""

    title: str
    sentences: tuple[str, ...]


Facts = Callable[[RunRecord], Iterator[str]]


def _no_facts(_: RunRecord) -> Iterator[str]:
    yield from ()


def methods(record: RunRecord) -> tuple[Paragraph, ...]:
    """The paragraphs, without those that have nothing to say; the last tells what the record does not hold."""
    look = looked_up(record)
    found = [Paragraph(title, (*_said(choices, look), *facts(record))) for title, choices, facts in TOPICS]
    missing = [choice.key for choice in CHOICES if look(choice.key) is ABSENT and choice.counts(look)]
    if missing:
        sentence = f"The record does not hold the settings {', '.join(missing)}."
        found.append(Paragraph("Not recorded", (sentence,)))
    return tuple(paragraph for paragraph in found if paragraph.sentences)


def latex(paragraphs: tuple[Paragraph, ...]) -> str:
    r"""A `\paragraph` each, a sentence a line."""
    parts = ("\n".join((f"\\paragraph{{{latex_text(p.title)}.}}", *map(_line, p.sentences))) for p in paragraphs)
    return "\n\n".join(parts) + "\n"


def _line(sentence: str) -> str:
    """A digest may be broken between lines; it is longer than half of one."""
    return re.sub(r"(?<=[0-9a-f]{8})(?=[0-9a-f]{8})", r"\\allowbreak{}", latex_text(sentence))


def looked_up(record: RunRecord) -> Look:
    """The settings of the record; ABSENT is not null."""

    def look(key: str) -> Any:
        value: Any = record.config
        for part in key.split("."):
            value = value.get(part, ABSENT) if isinstance(value, dict) else ABSENT
        return value

    return look


def _said(choices: tuple[Choice, ...], look: Look) -> list[str]:
    return [sentence for choice in choices if (sentence := choice.sentence(look)) is not None]


# What was found out.


def _of_model(record: RunRecord) -> Iterator[str]:
    model = record.provenance.model
    if {"model_type", "layers", "heads"} <= model.keys():
        yield f"It is of the kind {model['model_type']}, with {model['layers']} layers of {model['heads']} heads."
    if weights := model.get("weights"):
        yield f"Its weights have the digest {weights}."
    if processor := model.get("image_processor"):
        yield f"The image processor that was taken is {processor}."
    if verified := record.provenance.verification:
        failed = f" and failed {', '.join(verified.failed)}" if verified.failed else ""
        yield f"On {verified.when} it passed {verified.passed} checks{failed}."


def _of_data(record: RunRecord) -> Iterator[str]:
    if (metrics := record.metrics) is not None:
        yield (
            f"{metrics.n_expressions:,} expressions of {metrics.n_images:,} images of the split {metrics.split} were "
            f"evaluated; {metrics.n_failed:,} of them failed and {metrics.n_empty:,} got no answer."
        )
        if metrics.n_missing:
            yield f"{metrics.n_missing:,} of these are not in the file that was scored."
    for note in record.provenance.dataset.notes:
        yield f"Of the copy that was read it is known: {note.rstrip('.')}."


def _of_discovery(record: RunRecord) -> Iterator[str]:
    if (given := record.provenance.heads) is not None:
        yield f"The given heads are {', '.join(given.heads)}, found by {given.source}; {given.leakage.rstrip('.')}."
    if (heads := record.heads) is None:
        return
    yield sentences_discovery.TIES
    if heads.n_images is not None and heads.n_expressions is not None:
        yield (
            f"Discovery asked {heads.n_expressions:,} different expressions of {heads.n_images:,} images; "
            f"{heads.n_failed:,} samples failed, and {heads.n_excluded_images:,} images were left out by the guard."
        )
    if heads.tau is not None:
        yield f"The threshold tau is {heads.tau:.3f}."
    yield f"{int(heads.eligible.sum()):,} of {heads.eligible.size:,} heads are eligible."
    first = "the most frequent" if heads.score is None else "the highest ranked"
    yield f"The localization heads are {', '.join(map(str, heads.heads))}, {first} first."


def _of_heads(record: RunRecord) -> Iterator[str]:
    if (follows := follows_of(record)) is not None:
        yield follows.sentence
        if follows.smoothing:
            said = ", ".join(f"{name} {value}" for name, value in follows.smoothing.items())
            yield f"Peaks were judged on maps smoothed with {said}."


def _of_grounding(record: RunRecord) -> Iterator[str]:
    if record.metrics is not None and record.about_heads:
        yield sentences_grounding.TIES


def _of_absence(record: RunRecord) -> Iterator[str]:
    if record.metrics is not None and (found := record.metrics.absence) is not None:
        yield f"The score is {found.score}, and from {found.threshold:.3f} on the answer is that nothing is there."


def _of_evaluation(record: RunRecord) -> Iterator[str]:
    if (metrics := record.metrics) is None:
        return
    yield interval_words(level_of(metrics.confidence), metrics.measured)
    yield from dict.fromkeys(METRIC[key].note for key in METRIC if key in metrics.measured and METRIC[key].note)
    for method, note in baseline_notes(record):
        yield f"{method_label(method).removesuffix(' *')}: {note}"
    yield from metrics.notes


def _of_run(record: RunRecord) -> Iterator[str]:
    provenance = record.provenance
    if provenance.commit:
        changes = "with uncommitted changes" if provenance.dirty else "without uncommitted changes"
        yield f"The code is commit {provenance.commit}, {changes}."
    if provenance.source_sha256:
        yield f"The package's source files have the digest {provenance.source_sha256}."
    if named := ", ".join(f"{name} {version}" for name, version in provenance.versions.items() if version):
        yield f"It ran with {named}."
    if machine := _machine(provenance):
        yield f"It ran on {machine}."
    made = [made for made in (provenance.maps, provenance.answers) if made is not None and made.other_versions]
    for one in made:
        yield f"What it read from the store was made with other versions: {one.other_versions}."


def _machine(provenance: ProvenanceFile) -> str:
    hardware = provenance.hardware
    parts = [*(hardware.get("gpus") or []), hardware.get("processor")]
    return ", ".join(str(part) for part in parts if part)


_FINDS: Where = {**USES_HEADS, "heads.set": Only((None,))}
_TOPICS: tuple[tuple[str, Where, tuple[Choice, ...], Facts], ...] = (
    ("Model", ASKS_MODEL, MODEL, _of_model),
    ("Prompt", ASKS_MODEL, PROMPT, _no_facts),
    ("Data", {}, DATA, _of_data),
    ("Predictions", {"predictions": Not((None,), "predictions.jsonl")}, PREDICTIONS, _no_facts),
    ("Boxes in words", {"predictions": Only((None,))}, DIRECT, _no_facts),
    ("Discovery", _FINDS, DISCOVERY, _of_discovery),
    ("Heads", USES_HEADS, HEADS, _of_heads),
    ("Steering", {"stage": Only((Stage.steer,))}, STEERING, _no_facts),
    ("From maps to a box", GROUNDS, GROUNDING, _of_grounding),
    ("Further looks", GROUNDS, ZOOM, _no_facts),
    ("Answers of nothing", GROUNDS, ABSENCE, _of_absence),
    ("Masks", GROUNDS, MASKS, _no_facts),
    ("Evaluation", {}, EVALUATION, _of_evaluation),
    ("Audit", {"stage": Only((Stage.audit,))}, AUDIT, _no_facts),
    ("Run", {}, RUN, _of_run),
)
TOPICS = tuple((title, within(where, choices), facts) for title, where, choices, facts in _TOPICS)
"""Title, what its settings say, what was found out. Each topic has a condition for all of its settings."""
CHOICES = tuple(chain.from_iterable(choices for _, choices, _ in TOPICS))
