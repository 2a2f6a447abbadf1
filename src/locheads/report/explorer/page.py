"""explorer.html: the head explorer in one file, readable without a network; and the same page for a server."""

import base64
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from locheads.records.explorer_file import ExplorerFile, ExplorerSample
from locheads.report.explorer.fit import LIMIT, Shown, fit
from locheads.report.run_record import RunRecord
from locheads.report.theme import DARK, LIGHT, heat_map
from locheads.store.atomic import write_text

EXPLORER_PAGE = "explorer.html"
HERE = Path(__file__).parent
SCRIPTS = ("ground.js", "draw.js", "grid.js", "explorer.js")
FIXED = {"kernel": 7, "sigma": 1.0, "border": "mirror", "padding": "mapped", "rounding": "none"}
"""The defaults, where the run's settings do not name them."""


def write_explorer_page(run: RunRecord) -> Path | None:
    """Writes `explorer.html` into the run folder; None where the run kept nothing to explore.

    Raises:
        StoreError: its records are broken, or the page cannot be written.
    """
    record = ExplorerFile.read_if_there(run.folder)
    if record is None:
        return None
    path = run.folder / EXPLORER_PAGE
    write_text(path, self_contained(run, record).encode("utf-8", "replace").decode("utf-8"))
    return path


def self_contained(run: RunRecord, record: ExplorerFile, limit: int = LIMIT) -> str:
    """The page with as many samples and heads as `limit` bytes hold."""
    shown = fit(record, limit)
    numbers = sorted({s.sample.image for s in shown if s.sample.image is not None})
    blocks = [(f"image-{number}", _base64(record.image(number))) for number in numbers]
    blocks += [(f"maps-{i}", _base64(record.codes(s.sample, s.n_heads))) for i, s in enumerate(shown)]
    return _render(run, record, shown, blocks, served=False)


def served_page(run: RunRecord, record: ExplorerFile) -> str:
    """The page without images and maps: it asks for `images/N` and `maps/N` when they are to be shown."""
    shown = [Shown(sample, len(sample.heads)) for sample in record.samples]
    return _render(run, record, shown, [], served=True)


def _render(
    run: RunRecord, record: ExplorerFile, shown: list[Shown], blocks: Iterable[tuple[str, str]], *, served: bool
) -> str:
    loader = FileSystemLoader([HERE, HERE.parent])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style = "\n".join([environment.get_template("page.css.j2").render(), (HERE / "explorer.css").read_text()])
    script = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return environment.get_template("explorer.html.j2").render(
        title=_title(run),
        policy=_policy(style, script, served),
        style=Markup(style),
        script=Markup(script),
        data=Markup(_inert(_data(run, record, shown, served))),
        blocks=blocks,
        held=held(record, shown, served),
        grounding=_start(record),
    )


def held(record: ExplorerFile, shown: list[Shown], served: bool = False) -> list[str]:
    """What the page holds and what it leaves out, in sentences."""
    counts = [s.n_heads for s in shown if s.n_heads]
    every, n_kept = record.layers * record.heads_per_layer, len(record.samples)
    lines = [
        f"{len(shown)} of the {record.n_split} expressions of the evaluated split, evenly spaced over it and not "
        "picked for their result."
    ]
    if len(shown) < n_kept:
        lines.append(f"{n_kept - len(shown)} more samples are in the run folder, but too large for one file.")
    if counts and min(counts) < every:
        heads = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        lines.append(
            f"Maps of {heads} of the model's {every} heads per sample: those that ground it, the best by REC and "
            "by IoU, and the most often selected. The others' maps are left out (struck out in the grid)."
        )
    elif counts:
        lines.append(f"The maps of all {every} heads.")
    if not served and (len(shown) < n_kept or any(s.n_heads < len(s.sample.heads) for s in shown)):
        lines.append(f"All that the run kept: python -m locheads.report serve {record.folder.name}")
    judged = [s.sample.same_box for s in shown if s.sample.same_box is not None]
    lines.append(
        "Maps have 8 bits here, linear in the root of the weight, and scaled to the map's largest value. With the "
        f"run's heads and settings they give the run's own box in {sum(judged)} of {len(judged)} samples."
    )
    lines.append(
        "Grounding on this page is the paper's: smoothing, sum, a multiple of the mean, hull. Where the run used "
        "another rule, its box is drawn beside this page's (dotted)."
    )
    return lines


def _data(run: RunRecord, record: ExplorerFile, shown: list[Shown], served: bool) -> dict[str, Any]:
    start = _start(record)
    component = "all_cells" if "all_cells" in (record.grounding.get("box"), record.grounding.get("component")) else ""
    return {
        "served": served,
        "layers": record.layers,
        "heads_per_layer": record.heads_per_layer,
        "localization": record.localization,
        "best_rec": record.best_rec,
        "best_iou": record.best_iou,
        "settings": start | {"level": 1.0, "component": component or "largest_hull", "opacity": 0.8},
        "metrics": _metrics(run, record),
        "ramp": {"light": _stops(LIGHT.ramp), "dark": _stops(DARK.ramp)},
        "heat": np.rint(255 * heat_map()(np.arange(256))[:, :3]).astype(int).tolist(),
        "samples": [_sample(s.sample, s.n_heads) for s in shown],
    }


def _start(record: ExplorerFile) -> dict[str, Any]:
    """The run's own smoothing, where the sliders begin, and how it turns cells into pixels."""
    return {key: record.grounding.get(key, value) for key, value in FIXED.items()}


def _sample(sample: ExplorerSample, n_heads: int) -> dict[str, Any]:
    values = sample.model_dump(exclude={"at", "same_box"})
    return values | {"heads": sample.heads[:n_heads], "scales": sample.scales[:n_heads]}


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


def _policy(style: str, script: str, served: bool) -> str:
    """Content Security Policy: this page's own style and script by their hashes, and nothing else that runs."""
    sources = "img-src 'self'; connect-src 'self'" if served else "img-src data:"
    return (
        f"default-src 'none'; {sources}; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
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
