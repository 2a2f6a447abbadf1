"""Where the figures come from: notes and warnings, code, versions, machine, seeds."""

import shlex
from collections.abc import Iterator
from typing import Any

from locheads.report.dossier.section import Outcome, Section, Table, amount, ask, holds, unknown
from locheads.report.facts import UNKNOWN
from locheads.report.run_record import RunRecord


def notes(record: RunRecord) -> Section:
    """What a reader of the figures must know, and what the run warned of."""
    title, known = "Notes and warnings", record.provenance.warnings
    of_data = record.provenance.dataset.notes or (record.samples.notes if record.samples else ())
    told = list(dict.fromkeys([*(record.metrics.notes if record.metrics else ()), *(f"Data: {n}" for n in of_data)]))
    warned = [text for text in known or () if text not in told and f"Data: {text}" not in told]
    outcomes = [ask(f"{amount(len(told), 'note')} on the figures or the data.")] if told else []
    outcomes += [ask(f"The run warned of {amount(len(warned), 'thing')}.")] if warned else []
    if known is None:
        outcomes.append(unknown("What the run warned of."))
    elif not outcomes:
        outcomes.append(holds("The run has no notes, and warned of nothing."))
    sentences = [*told, *(f"Warning: {text}" for text in warned)]
    if not told:
        sentences.insert(0, "There are no notes on the figures or the data.")
    if known is None:
        sentences.append("Not recorded: warnings; run.log has them, where it was kept.")
    elif not warned:
        sentences.append("There are no warnings beyond the notes." if told else "There are no warnings.")
    return Section(title, tuple(outcomes), tuple(sentences))


def origin(record: RunRecord) -> Section:
    """Commit, versions, hardware, seeds, command."""
    found = record.provenance
    outcomes, sentences = _code(record)
    others = [(name, one.other_versions) for name, one in (("maps", found.maps), ("answers", found.answers)) if one]
    made = [f"The {name} were made with other versions: {text}" for name, text in others if text]
    table = Table("The run", ("Name", "Recorded value"), tuple(_rows(record)), words=True)
    return Section("Code and machine", (*outcomes, *map(ask, made)), (*sentences, *made), (table,))


def _rows(record: RunRecord) -> Iterator[tuple[str, str]]:
    found = record.provenance
    seeds = found.seeds or {"seed": record.setting("seed")}
    yield from ((f"Seed: {name}" if name != "seed" else "Seed", _told(value)) for name, value in seeds.items())
    versions = [f"{name} {'not installed' if v is None else v}" for name, v in found.versions.items()]
    yield "Versions", _told(", ".join(versions))
    machine = found.hardware or {"machine": None}
    yield from (
        ("GPUs" if name == "gpus" else name.capitalize(), "none" if value == [] else _told(value))
        for name, value in machine.items()
    )
    yield "Command", _told(shlex.join(found.argv))  # as a shell takes it
    yield "Started", _told(found.started)
    yield "Seconds", _told(found.seconds)
    yield "Digest of the run", _told(found.digest)


def _told(value: Any) -> str:
    several = isinstance(value, list | tuple)
    return ", ".join(map(str, value)) if several else UNKNOWN if value in (None, "") else str(value)


def _code(record: RunRecord) -> tuple[list[Outcome], list[str]]:
    found = record.provenance
    source = f" The sha256 over the package's own files is {found.source_sha256}." if found.source_sha256 else ""
    if found.commit is None:
        told = f"Not recorded: the commit of the code (outside git, or without git).{source}"
        return [unknown("The commit of the code.")], [told]
    if found.dirty is None:
        return [unknown("Whether the code had uncommitted changes.")], [
            f"The code was commit {found.commit}. Not recorded: whether it had uncommitted changes.{source}"
        ]
    if not found.dirty:
        told = f"The code was commit {found.commit}, without uncommitted changes."
        return [holds(told)], [told + source]
    difference = f" (sha256 of the difference: {found.diff_sha256})" if found.diff_sha256 else ""
    told = f"The code was commit {found.commit} with uncommitted changes{difference}."
    return [ask(f"The code was commit {found.commit[:12]} with uncommitted changes.")], [told + source]
