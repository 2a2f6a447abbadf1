"""What a run is, as rows of text for the page."""

import shlex
from typing import Any

from locheads.discovery.config import Draw
from locheads.models.identity import POCKET_FOLDERS
from locheads.records.provenance_file import ProvenanceFile
from locheads.report.run_record import RunRecord

UNKNOWN = "not recorded"


def facts(record: RunRecord) -> list[tuple[str, str]]:
    """Name and value of what identifies the run, for people."""
    s, status, provenance = record.setting, record.status, record.provenance
    changes = ", with uncommitted changes" if provenance.dirty else ""
    rows = [
        *_own_facts(record),
        *_verified(provenance, s("model.id")),
        ("Seed", s("seed")),
        ("State", status and (f"{status.state}: {status.error}" if status.error else status.state)),
        ("Code", f"commit {provenance.commit[:12]}{changes}" if provenance.commit else None),
        *_other_versions(provenance),
        ("Started", provenance.started),
        ("Duration", _duration(provenance.seconds)),
    ]
    return [(name, UNKNOWN if value is None else str(value)) for name, value in rows]


def _verified(provenance: ProvenanceFile, model: Any) -> list[tuple[str, Any]]:
    """No row for a run of files or of an earlier version, nor where nobody has verified the pocket model."""
    if (verified := provenance.verification) is None:
        asked = "verification" in provenance.model_fields_set and model not in POCKET_FOLDERS
        return [("Model verified", "no (stage=verify)")] if asked else []
    failed = f", failed: {', '.join(verified.failed)}" if verified.failed else ""
    return [("Model verified", f"{verified.when}: {verified.passed} checks passed{failed}")]


def _own_facts(record: RunRecord) -> list[tuple[str, Any]]:
    """What only runs of its kind have: of a file of predictions, of boxes in words, or of heads."""
    s, heads = record.setting, record.heads
    model = [("Model", _with_id(s("model.name"), s("model.id"))), ("Preprocessing", s("model.preprocess"))]
    data, split, prompt = ("Data set", s("dataset.name")), ("Split", s("dataset.split")), ("Prompt", s("prompt.name"))
    if record.external:
        written = ("Boxes are written as", _convention(record, "predictions_format"))
        missing = record.metrics.n_missing if record.metrics else None
        return [("Predictions", record.external), written, data, split, ("Samples that the file lacks", missing)]
    if record.is_direct:
        return [*model, prompt, ("Boxes are written as", _convention(record, "direct")), data, split]
    found_on = s("heads.set", s("dataset.discovery_split") or "?")
    return [
        *model,
        data,
        ("Splits", f"heads from {found_on}, evaluated on {s('dataset.split') or '?'}"),
        prompt,
        ("Criterion", s("criterion.name") or (heads.criterion.get("name") if heads else None)),
        ("Selection", f"{s('selection.kind') or (heads.selection if heads else '?')}, k = {s('heads.k') or '?'}"),
        ("Discovery", _discovery(record)),
        *([("Absence", absence)] if (absence := s("absence.score", "off")) != "off" else []),
        *([("Contrast", contrast)] if (contrast := s("grounding.contrast", "none")) != "none" else []),
    ]


def _convention(record: RunRecord, group: str) -> str | None:
    """The declared format and frame."""
    form, frame = record.setting(f"{group}.box_format"), record.setting(f"{group}.frame")
    form = form or record.setting(f"{group}.point_format")
    whole = form is None or frame in (None, "image", "picture")
    return form if whole else f"{form}, of the {str(frame).replace('_', ' ')}"


def _discovery(record: RunRecord) -> str:
    if (heads := record.provenance.heads) is not None:
        return f"none: heads {', '.join(heads.heads)} of {heads.set}, {heads.source}"
    s = record.setting
    whole = ", drawn by whole images" if s("discovery.draw") == Draw.image else ""
    return f"{s('discovery.n_samples') or '?'} samples x {s('discovery.trials') or '?'} trials{whole}"


def _with_id(name: Any, identity: Any) -> str | None:
    if name is None or identity in (None, name):
        return name if identity is None else str(identity)
    return f"{name} ({identity})"


def _other_versions(provenance: ProvenanceFile) -> list[tuple[str, Any]]:
    """A row where the maps or answers were made with other versions than the run (engine.other_versions=take)."""
    made = {"maps": provenance.maps, "answers": provenance.answers}
    return [(f"The {name} are of other versions", one.other_versions)
            for name, one in made.items() if one is not None and one.other_versions]  # fmt: skip


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def baseline_notes(record: RunRecord) -> list[tuple[str, str]]:
    """What each row of the results table is."""
    k = record.heads.k if record.heads else record.setting("heads.k") or "k"
    draws = record.setting("evaluation.random_draws")
    averaged = f"averaged over {draws} draws" if draws else "averaged over several draws"
    eligible = "eligible heads" if record.setting("heads.set") is None else "heads of the layers that discovery admits"
    truth = "Chosen with ground truth, so no competitor"
    rows = {
        "predictions": "Boxes or masks from a file, in the format that it was said to have. Where it has boxes only, a "
        "box stands for its mask; where it has masks only, a mask's tight box is its box.",
        "direct_output": "The box that the model writes when asked for it, read by the stated convention; a box stands "
        "for its mask.",
        "points": "Points from a file, in the format that they were said to have: right is one in the true box.",
        "localization_heads": f"{_chosen(record, k)} No box or mask takes part in the choice.",
        "best_rec_heads": f"The {k} heads that a greedy search by REC Acc@0.5 finds on discovery samples: the head "
        f"whose own box is best, then those that raise it most. {truth}; another set may be better, as the "
        "search is greedy and sees a part of the discovery samples.",
        "best_iou_heads": f"The {k} heads whose own maps have the best mask IoU on the discovery set. "
        f"{truth}; good maps alone need not make the best sum.",
        "mean_of_all_heads": "The maps of all heads, averaged: what choosing heads adds to plain attention.",
        "random_heads": f"{k} {eligible} drawn at random, {averaged}: what choosing the right ones adds.",
        "centre_box": "A box with half the image's width and height in its centre; it looks at nothing.",
    }
    shown = record.metrics.methods if record.metrics else {}
    return [(method, text) for method, text in rows.items() if method in shown]


def _chosen(record: RunRecord, k: Any) -> str:
    kind = record.setting("selection.kind") or (record.heads.selection if record.heads else "fixed")
    if record.setting("heads.set") is not None:
        return f"The first {k} heads of {record.setting('heads.set')}, given to the run, the same for every sample."
    if kind == "greedy":
        return f"Each sample's own {k} best heads by the criterion (selection=greedy)."
    return f"The {k} heads that discovery chose on other images, the same for every sample."


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """A nested record by dotted names. Lists stay whole."""
    if not isinstance(value, dict):
        return {prefix: value}
    parts = [flat(part, f"{prefix}.{key}" if prefix else str(key)) for key, part in value.items()]
    return {name: found for part in parts for name, found in part.items()}


def provenance_rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    """A nested record as (dotted name, text) rows."""
    rows = []
    for name, value in flat(record).items():
        join = shlex.join if name == "argv" else ", ".join
        several = isinstance(value, list | tuple)
        rows.append((name, join(map(str, value)) if several else UNKNOWN if value is None else str(value)))
    return rows
