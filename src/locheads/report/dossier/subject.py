"""What was evaluated, and the figures: model, data, split, counts."""

from typing import Any

from locheads.evaluation.metric_table import METRIC, headline, method_label
from locheads.records.metrics_file import MetricsRecord, few_mark
from locheads.report.absence_report import absence_caption
from locheads.report.audit_report import caption as audit_caption
from locheads.report.dossier.section import Outcome, Section, Table, amount, ask, holds, measured_texts, unknown
from locheads.report.facts import UNKNOWN, facts
from locheads.report.run_record import RunRecord
from locheads.report.tables import results_caption
from locheads.report.verdict import compared

PART = "Only a part of the split was evaluated"
ELSEWHERE = {"Model verified", "Seed", "State", "Code", "Started", "Duration"}
"""Facts that have sections of their own."""


def evaluated(record: RunRecord) -> Section:
    """Model, revision, weights, data, split, counts; whether the run is whole."""
    rows = [*_asked(record), *_model(record), *_data(record)]
    return Section(
        "What was evaluated",
        (*_counted(record), *_complete(record)),
        (*_part(record), *_state(record)),
        (Table("The run", ("Fact", "Recorded value"), tuple(rows), words=True),),
    )


def _asked(record: RunRecord) -> list[tuple[str, str]]:
    return [(name, value) for name, value in facts(record) if name not in ELSEWHERE]


def _model(record: RunRecord) -> list[tuple[str, str]]:
    """Nothing of a scored file: no model was asked."""
    if record.external:
        found = record.provenance.predictions or {}
        return [("sha256 of the predictions", _text(found.get("sha256")))]
    model = record.provenance.model
    kind, layers, heads, weights = (_text(model.get(key)) for key in ("model_type", "layers", "heads", "weights"))
    # Of a snapshot of the hub the weights are known by its commit.
    digest = "sha256 of the weights" if len(weights) == 64 else "Weights"
    return [
        ("Revision", _text(model.get("revision"), "none named: see the weights" if model else UNKNOWN)),
        ("Architecture", f"{kind}, {layers} layers of {heads} heads" if model else UNKNOWN),
        (digest, weights),
        ("Image processor", _text(model.get("image_processor"))),
        ("Read from", _text(model.get("source"))),
    ]


def _data(record: RunRecord) -> list[tuple[str, str]]:
    origin, n = record.provenance.dataset, counts(record)
    counted = UNKNOWN if n is None else f"{amount(n[0], 'expression')} of {amount(n[1], 'image')}"
    read = UNKNOWN if "pictures_sha256" not in origin.model_fields_set else _text(origin.pictures_sha256)
    return [
        ("Evaluated", counted),
        ("sha256 of the annotations", _text(origin.annotations_sha256)),
        ("sha256 over the images", read),
    ]


def _text(value: Any, without: str = UNKNOWN) -> str:
    return without if value is None else str(value)


def counts(record: RunRecord) -> tuple[int, int] | None:
    """(expressions, images) that were evaluated; None where nothing was."""
    found = record.metrics or record.audit
    return None if found is None else (found.n_expressions, found.n_images)


def _counted(record: RunRecord) -> list[Outcome]:
    if (n := counts(record)) is None:
        return [unknown("The run has no figures: nothing was evaluated, or its file is missing.")]
    on = f"{record.setting('dataset.name', 'unrecorded data')} {record.setting('dataset.split', '')}".strip()
    told = holds(f"{amount(n[0], 'expression')} of {amount(n[1], 'image')} of {on} were scored.")
    part = [ask(sentence) for sentence in _part(record) if sentence.startswith(PART)]
    return [told, *part]


def _part(record: RunRecord) -> list[str]:
    """Of the split: all of it, or what was taken."""
    if not isinstance(record.setting("dataset"), dict):
        return ["Not recorded: whether the whole split was evaluated (config.yaml is missing or broken)."]
    limit, offset = record.setting("dataset.limit"), record.setting("dataset.offset", 0)
    order = " in an order drawn with the seed" if record.setting("dataset.shuffle", False) else ""
    if limit is None and not offset:
        return [f"The whole split was evaluated{order}."]
    most = "all expressions" if limit is None else f"at most {limit} expressions"
    after = f" after the first {offset}" if offset else ""
    return [f"{PART}: {most}{after}{order}."]


def _complete(record: RunRecord) -> list[Outcome]:
    ended = record.status is not None and record.status.state == "done"
    whole = [] if ended or record.status is None else [ask(_state(record)[0])]
    return [*whole, *map(ask, record.problems)]


def _state(record: RunRecord) -> list[str]:
    status = record.status
    if status is None:
        return ["Not recorded: how the run ended (status.json is missing or broken)."]
    error = f" It says: {status.error}" if status.error else ""
    return [f"The run's state is: {status.state}.{error}", *record.problems]


def figures(record: RunRecord) -> Section:
    """The primary figures with their intervals, and how the heads stand to the baselines."""
    if record.audit is not None:
        verdict = compared(record)
        told = (verdict.headline, *verdict.points, audit_caption(record.audit))
        return Section("Figures", (ask(verdict.headline),), told)
    if record.metrics is None:
        return Section("Figures", sentences=("Not recorded: figures (metrics.json is missing or broken).",))
    verdict, metrics = compared(record), record.metrics
    if verdict.tone == "none":
        outcomes = [unknown(verdict.headline)]
    else:
        outcomes = [holds(verdict.headline) if verdict.tone == "good" else ask(verdict.headline)]
    if few_mark(metrics.n_images):
        outcomes.append(ask(f"The figures are of {amount(metrics.n_images, 'image')} only: their intervals are rough."))
    absence = [absence_caption(metrics.absence)] if metrics.absence else []
    return Section("Figures", tuple(outcomes), (results_caption(metrics), *absence), (_table(metrics),))


def _table(metrics: MetricsRecord) -> Table:
    there = [METRIC[key] for key in headline(metrics.measured)]
    rows = []
    for method in metrics.rows():
        rows.append((method_label(method), *measured_texts(there, metrics.methods[method])))
    headings = ("Method", *(metric.label for metric in there))
    return Table("With intervals; in percent where nothing else is said", headings, tuple(rows))
