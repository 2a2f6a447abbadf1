"""Samples that failed: which, why, and how they count."""

from locheads.records.metrics_file import MetricsRecord, answered
from locheads.report.dossier.section import Outcome, Section, Table, amount, ask, holds, unknown
from locheads.report.run_record import RunRecord

NOT_NAMED = "Not recorded: which samples failed, and why. scores.parquet has it in its column error."


def failures(record: RunRecord) -> Section:
    """Samples that could not be processed, and those without an answer."""
    outcomes, sentences, tables = _evaluated(record)
    found = _of_discovery(record)
    asked = [ask(sentence) for sentence in found if record.heads and record.heads.n_failed]
    return Section("Samples that failed", (*outcomes, *asked), (*sentences, *found), tuple(tables))


def _of_discovery(record: RunRecord) -> list[str]:
    if record.heads is not None:
        return [f"{amount(record.heads.n_failed, 'discovery sample')} failed."]
    if record.about_heads and record.provenance.heads is None:
        return ["Not recorded: discovery samples that failed (heads.json is missing or broken)."]
    return []


def _evaluated(record: RunRecord) -> tuple[list[Outcome], list[str], list[Table]]:
    if record.metrics is not None:
        outcome, sentences = _counted(record.metrics)
        return [outcome], sentences, _named(record.metrics)
    if record.audit is not None:
        told = f"{amount(record.audit.n_failed, 'sample')} of the audit failed."
        return [ask(told) if record.audit.n_failed else holds(told)], [told], []
    told = "Not recorded: evaluated samples that failed (metrics.json is missing or broken)."
    return [unknown("Whether evaluated samples failed.")], [told], []


def _counted(metrics: MetricsRecord) -> tuple[Outcome, list[str]]:
    n, failed, empty = metrics.n_expressions, metrics.n_failed, metrics.n_empty
    told = f"Of {amount(n, 'expression')}, {failed:,} failed and {empty:,} got no {answered(metrics)}."
    count = "Both count as misses, but no box is right where nothing is named."
    counted = count if "n_acc" in metrics.measured else "Both are scored as misses, not left out."
    missing = [f"{metrics.n_missing:,} of the failed are not in the file of predictions."] if metrics.n_missing else []
    reasons = metrics.boxes.reasons().strip().removeprefix("(").removesuffix(")") if metrics.boxes else ""
    missing += [f"Answers without a box: {reasons}."] if reasons else []
    missing += [NOT_NAMED] if failed and not metrics.failed else []
    return ask(told) if failed or empty else holds(told), [f"{told} {counted}", *missing]


def _named(metrics: MetricsRecord) -> list[Table]:
    rows = tuple((sample.sample_id, sample.reason) for sample in metrics.failed)
    first = "All failed expressions" if len(rows) == metrics.n_failed else f"The first {len(rows)} failed expressions"
    return [Table(f"{first}, with the reason", ("Sample", "Reason"), rows, words=True)] if rows else []
