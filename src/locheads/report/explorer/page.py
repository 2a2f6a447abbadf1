"""explorer.html: the head explorer in one file of limited size, readable without a network."""

import base64
import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from locheads.records.explorer_file import ExplorerFile, ExplorerSample
from locheads.report.run_record import RunRecord
from locheads.report.theme import DARK, LIGHT, heat_map
from locheads.store.atomic import write_text

EXPLORER_PAGE = "explorer.html"
FOLDER = Path(__file__).parent
SCRIPTS = ("ground.js", "draw.js", "grid.js", "words.js", "explorer.js")
FIXED = {
    "kernel": 7, "sigma": 1.0, "border": "mirror", "smoothing_scale": "cells", "padding": "mapped", "rounding": "none",
}  # fmt: skip
"""The defaults, where the run's settings do not name them."""
LIMIT = 30_000_000
"""Bytes of the self-contained page. Browsers open larger files, but mail and chat refuse them."""
SHELL = 80_000
"""Bytes kept for markup, style and script."""
PER_CELL = 48
"""Bytes of the grid's numbers for each head of the model."""
LINE = 700
"""Bytes of a sample's own record beside its expression and its heads."""
PER_HEAD = 24
"""Bytes that a head costs in a sample's record: its name and its scale."""
MIN_HEADS = 8
"""Samples are left out before fewer heads than this are left of each."""


def page_template(name: str) -> Template:
    """A template of this folder or the one above."""
    loader = FileSystemLoader([FOLDER, FOLDER.parent])
    options: dict[str, Any] = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    return Environment(loader=loader, undefined=StrictUndefined, **options).get_template(name)


def write_page(path: Path, text: str) -> None:
    """Writes a page, whole or not at all. Raises StoreError where that is not possible."""
    # A lone surrogate in a record is legal JSON but no UTF-8: it must not cost the whole page.
    write_text(path, text.encode("utf-8", "replace").decode("utf-8"))


def write_explorer_page(run: RunRecord, limit: int = LIMIT) -> Path | None:
    """Writes `explorer.html` into the run folder; None where the run kept nothing to explore.

    Raises StoreError where its records are broken, or the page cannot be written.
    """
    record = ExplorerFile.read_if_there(run.folder)
    if record is None:
        return None
    path = run.folder / EXPLORER_PAGE
    write_page(path, self_contained(run, record, limit))
    return path


def self_contained(run: RunRecord, record: ExplorerFile, limit: int = LIMIT) -> str:
    """The page with as many samples and heads as `limit` bytes hold."""
    shown = fit(record, limit)
    numbers = sorted(_numbers(shown))
    blocks = [(f"image-{number}", _base64(record.image(number))) for number in numbers]
    blocks += [(f"maps-{i}", _base64(record.codes(s))) for i, s in enumerate(shown)]
    style = "\n".join([page_template("page.css.j2").render(), (FOLDER / "explorer.css").read_text()])
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return page_template("explorer.html.j2").render(
        title=_title(run),
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=Markup(_inert(_data(run, record, shown))),
        blocks=blocks,
        held=contents(record, shown),
        looked=any(s.views for s in shown),
        grounding=_start(record),
        unit="cells" if _start(record)["smoothing_scale"] == "cells" else "cells of a grid of 24",
    )


def contents(record: ExplorerFile, shown: list[ExplorerSample]) -> list[str]:
    """What the page holds and what it leaves out, in sentences."""
    counts = sorted(len(s.heads) for s in shown if s.heads)
    every, n_kept = record.layers * record.heads_per_layer, len(record.samples)
    lines = [
        f"{len(shown)} of the {record.n_split} expressions of the evaluated split, evenly spaced over it and not "
        "picked for their result."
    ]
    if len(shown) < n_kept:
        lines.append(f"{n_kept - len(shown)} more samples are in the run folder, but too large for one file.")
    if counts and counts[0] < every:
        heads = " to ".join(str(count) for count in dict.fromkeys([counts[0], counts[-1]]))
        lines.append(
            f"Maps of {heads} of the model's {every} heads per sample: those that ground it, the best by REC and "
            "by IoU, and the most often selected. The others' maps are left out (struck out in the grid)."
        )
    elif counts:
        lines.append(f"The maps of all {every} heads.")
    if len(shown) < n_kept or sum(counts) < sum(len(s.heads) for s in record.samples):
        needed = math.ceil((_without_maps(record, record.samples) + _of_maps(record.samples)) / 1e6)
        lines.append(f"All that the run kept: python -m locheads.report {record.folder.name} --megabytes {needed}")
    if (contrast := record.grounding.get("contrast", "none")) != "none":
        lines.append(f"The maps are those that the run grounded, contrasted (grounding.contrast={contrast}).")
    if looked := sum(bool(s.views) for s in shown):
        lines.append(
            f"The run looked again at parts of the images of {looked} samples (framed). Its answers are those after "
            "all looks; the maps here, and this page's boxes, are those of the first look."
        )
    judged = [s.same_box for s in shown if s.same_box is not None]
    found = f"With the run's heads and settings they give the run's own box in {sum(judged)} of {len(judged)} samples."
    bits = "Maps have 8 bits here, linear in the root of the weight, and scaled to the map's largest value."
    lines.append(f"{bits} {found}" if judged else bits)
    lines.append(
        "Grounding on this page is the paper's: smoothing, sum, a multiple of the mean, hull. Where the run used "
        "another rule, its box is drawn beside this page's (dotted)."
    )
    return lines


def _data(run: RunRecord, record: ExplorerFile, shown: list[ExplorerSample]) -> dict[str, Any]:
    start = _start(record)
    component = "all_cells" if "all_cells" in (record.grounding.get("box"), record.grounding.get("component")) else ""
    return {
        "layers": record.layers,
        "heads_per_layer": record.heads_per_layer,
        "localization": record.localization,
        "best_rec": record.best_rec,
        "best_iou": record.best_iou,
        "settings": start | {"level": 1.0, "component": component or "largest_hull", "opacity": 0.8},
        "metrics": _metrics(run, record),
        "threshold": run.metrics.absence.threshold if run.metrics and run.metrics.absence else None,
        "ramp": {"light": _stops(LIGHT.ramp), "dark": _stops(DARK.ramp)},
        "heat": np.rint(255 * heat_map()(np.arange(256))[:, :3]).astype(int).tolist(),
        "samples": [s.model_dump(exclude={"at", "same_box"}) for s in shown],
    }


def _start(record: ExplorerFile) -> dict[str, Any]:
    """The run's own smoothing, where the sliders begin, and how it turns cells into pixels."""
    return {key: record.grounding.get(key, value) for key, value in FIXED.items()}


def _metrics(run: RunRecord, record: ExplorerFile) -> list[dict[str, Any]]:
    """What the grid can be coloured by: values per layer and head, and how they are written."""
    heads = run.heads
    frequency, sums, iou = (heads.frequency_mean, heads.mean_attention_sum, heads.head_iou) if heads else (None,) * 3
    percent, number = {"factor": 100, "digits": 1, "unit": " %"}, {"factor": 1, "digits": 3, "unit": ""}
    offered = [
        ("frequency", "selection frequency", "of the discovery samples", percent, frequency),
        ("sum", "attention sum", "of its attention lies on the image", number, sums),
        ("entropy", "spatial entropy", "nats; low: concentrated", number | {"digits": 2}, record.entropy),
        ("iou", "IoU of its map", "with the true masks of discovery", percent, iou),
    ]
    if heads is not None and heads.dependence is not None:
        words = heads.dependence.found()
        offered += [
            ("dependence", "dependence on the words", "0: the map stays whatever is asked", number, words.dependence),
            ("auc", "paraphrase over other object", "probability of the larger overlap", number, words.auc),
            ("gap", "peak gap", "peak stays: same object less another", percent, words.gap),
        ]
    shape = (record.layers, record.heads_per_layer)
    return [
        {"key": key, "label": label, "note": note, **form, "values": _rounded(values)}
        for key, label, note, form, values in offered
        if values is not None and values.shape == shape
    ]


def _rounded(values: np.ndarray) -> list[list[float | None]]:
    return [[float(f"{v:.5g}") if np.isfinite(v) else None for v in row] for row in values]


def _stops(ramp: tuple[str, ...]) -> list[list[int]]:
    return [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in ramp]


def _title(run: RunRecord) -> str:
    names = [run.setting("model.name") or "an unrecorded model", "on", run.setting("dataset.name") or "unrecorded data"]
    return " ".join(map(str, [*names, run.setting("dataset.split") or ""])).strip()


def _policy(style: str, script: str) -> str:
    """Content Security Policy: this page's own style and script by their hashes, and nothing else that runs."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{_base64(hashlib.sha256(text.encode()).digest())}"


def _inert(data: dict[str, Any]) -> str:
    """JSON in which nothing can end or open a tag or a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def fit(record: ExplorerFile, limit: int = LIMIT) -> list[ExplorerSample]:
    """The samples with their first heads that `limit` bytes hold, evenly spaced: as many samples as possible with
    MIN_HEADS heads, then as many heads as possible, the same number for all samples where their grids are equal."""
    n = len(record.samples)
    while n > 0:
        chosen = [record.samples[i] for i in np.unique(np.linspace(0, len(record.samples) - 1, n).round().astype(int))]
        left = limit - _without_maps(record, chosen)
        if _of_maps(chosen, MIN_HEADS) <= left:
            most = max(len(s.heads) for s in chosen)
            counts = range(min(MIN_HEADS, most), most + 1)
            found = counts[bisect_right(counts, left, key=lambda n_heads: _of_maps(chosen, n_heads)) - 1]
            return [s.model_copy(update={"heads": s.heads[:found], "scales": s.scales[:found]}) for s in chosen]
        n = min(n - 1, int(n * 0.95))
    return []


def _without_maps(record: ExplorerFile, samples: Sequence[ExplorerSample]) -> float:
    """Bytes of a page with these samples beside their maps. Images count once; 6: an odd character is \\uXXXX."""
    numbers = _numbers(samples)
    texts = sum(6 * len(s.expression) + 6 * len(s.error or "") + LINE for s in samples)
    images = sum(4 / 3 * len(record.image(number)) + 100 for number in numbers)
    return SHELL + PER_CELL * record.layers * record.heads_per_layer + texts + images


def _numbers(samples: Sequence[ExplorerSample]) -> set[int]:
    """Of the images that these samples show: their own, and those of true heat maps."""
    return {number for s in samples for number in (s.image, s.heat) if number is not None}


def _of_maps(samples: Sequence[ExplorerSample], n_heads: int | None = None) -> float:
    """Bytes of the maps of their first heads (None: of all)."""
    return sum(len(s.heads[:n_heads]) * (4 / 3 * s.cells + PER_HEAD) for s in samples)
