"""What a reader of a study's table must know of its runs, and where they come from."""

from collections.abc import Sequence

import pandas as pd

from locheads.report.facts import UNKNOWN, flat
from locheads.report.studies.layout import Layout
from locheads.report.studies.runs import StudyRun

POCKET = "pocket"
WITHOUT_EFFECT = ("engine.", "evaluation.gallery", "fresh", "paths.", "runs", "shard.", "stage", "study", "tracker.")
"""Beginnings of settings that cannot change a figure, but for ..."""
WITH_EFFECT = ("engine.quantization",)
"""... these."""
NAMING = ("model.name", "model.id", "model.revision", "model.trust_remote_code", "dataset.")
"""Those of settings that say which model and data: the rows and the table of origins tell."""
WHICH_SAMPLES = ("dataset.limit", "dataset.offset", "dataset.shuffle", "dataset.query")
"""Of those, the ones that they do not."""


def of_runs(layout: Layout, runs: Sequence[StudyRun], used: Sequence[StudyRun], replaced: int) -> list[str]:
    """Sentences, the gravest first. `replaced`: how many runs gave no cell."""
    left_out = f"{replaced} older or unrelated runs are left out: of several for the same cell the newest counts."
    sentences = [_pocket(used), _failures(layout, runs), _differing(layout, used), left_out if replaced else ""]
    return [sentence for sentence in sentences if sentence]


def _pocket(used: Sequence[StudyRun]) -> str:
    small = [POCKET in (run.predictions or run.setting("model.id"), run.setting("dataset.reader")) for run in used]
    if not any(small):
        return ""
    which = "All of our figures are" if all(small) else "Rows or columns named pocket are"
    return (
        f"{which} at pocket size: synthetic scenes, a model of 1.7 million parameters. They show that the study "
        "runs and what it prints; they say nothing about the paper's models."
    )


def _failures(layout: Layout, runs: Sequence[StudyRun]) -> str:
    failed = [run for run in runs if run.error is not None]
    if not failed:
        return ""
    places = [" ".join((*layout.row_of(run), *layout.column_of(run))) for run in failed]
    reasons = [f"{place}: {(run.error or '').rstrip('.')}" for place, run in zip(places, failed, strict=True)]
    return f"{len(failed)} of {len(runs)} runs failed. {'; '.join(dict.fromkeys(reasons))}."


def _differing(layout: Layout, used: Sequence[StudyRun]) -> str:
    """Settings in which the runs differ although the study does not vary them."""
    own = [flat(run.config) for run in used]
    names = sorted({name for settings in own for name in settings if not _is_meant(name, layout)})
    found = []
    for name in names:
        values = list(dict.fromkeys(str(settings.get(name)) for settings in own))
        if len(values) > 1:
            found.append(f"{name} ({', '.join(' '.join(value.split())[:60] for value in values)})")
    return f"Our runs differ also in {'; '.join(found)}." if found else ""


def _is_meant(name: str, layout: Layout) -> bool:
    if name.startswith(layout.varies) or (name.startswith(WITHOUT_EFFECT) and name not in WITH_EFFECT):
        return True
    return name.startswith(NAMING) and name not in WHICH_SAMPLES


def origins(used: Sequence[StudyRun]) -> pd.DataFrame:
    """A line per model, data, code, day and machine, with the number of runs."""
    lines = [_origin(run) for run in used]
    counted = {tuple(line.items()): lines.count(line) for line in lines}
    return pd.DataFrame([{**dict(line), "runs": str(count)} for line, count in counted.items()])


def _origin(run: StudyRun) -> dict[str, str]:
    provenance = run.provenance
    model, hardware = provenance.model, provenance.hardware
    commit = (provenance.commit or UNKNOWN)[:12]
    gpus = hardware.get("gpus")
    machine = ", ".join(map(str, gpus)) if gpus else f"{hardware.get('processor')}, {hardware.get('cores')} cores"
    return {
        "model": run.predictions or str(run.setting("model.name", "?")),
        "revision": str(model.get("revision") or "none")[:12],
        "weights": str(model.get("weights") or "?")[:12],
        "precision": str(run.setting("model.dtype", "?")),
        "data": str(run.setting("dataset.name", "?")),
        "annotations": (provenance.dataset.annotations_sha256 or "?")[:12],
        "commit": commit + (" and changes" if provenance.dirty else ""),
        "date": (provenance.started or "")[:10],
        "machine": machine,
    }
