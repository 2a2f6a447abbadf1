"""The axes and quantities from which the layouts are put together, each read from a run's records."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from math import isfinite
from typing import Any

import numpy as np

from locheads.evaluation.metric_table import METRIC, PRIMARY, Metric, Place, shown
from locheads.records.metrics_file import Figure6, p_text
from locheads.report.studies.layout import Axis, Measured, Quantity
from locheads.report.studies.runs import StudyRun

PAPER_MODELS = {
    "deepseek_vl_1_3b": "DeepSeek-VL-1.3B",
    "mini_gemini_2b": "Mini-Gemini-2B",
    "internvl_6b": "InternVL-6B",
    "yi_vl_6b": "Yi-VL-6B",
    "deepseek_vl_7b": "DeepSeek-VL-7B",
    "sharegpt4v_7b": "ShareGPT4V-7B",
    "llava_7b": "LLaVA-7B",
    "llava_1_5_7b": "LLaVA-1.5-7B",
    "llava_13b": "LLaVA-13B",
    "llava_1_5_13b": "LLaVA-1.5-13B",
}
"""model.name -> the paper's name."""
NOT_DEFINED = "not defined"


def label(value: Any) -> str:
    """A setting's value: 0.80 and 0.8 are the same."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def setting(key: str, name: str | None = None) -> Axis:
    """An axis along a setting."""
    return Axis(name or key, lambda run: label(run.setting(key, "null")))


def estimate(metric: str, method: str = "localization_heads") -> Callable[[StudyRun], Measured]:
    """Measures a metric with its interval."""
    return lambda run: run.record.metrics.get(method, metric) if run.record.metrics else None


# Axes.


def _model(run: StudyRun) -> str:
    name = str(run.setting("model.name", "?"))
    return PAPER_MODELS.get(name, name)


def _found_on(run: StudyRun) -> str:
    """Where the heads of a run come from: its own discovery, or a set that it was given (heads.set)."""
    given = run.record.provenance.get("heads")
    if not isinstance(given, dict):
        return f"{run.setting('dataset.name')} {run.setting('dataset.discovery_split')}"
    found_on = given.get("found_on")
    return " ".join(map(str, found_on)) if found_on else str(given.get("set"))


MODEL = Axis("model", _model)
DATA, SPLIT = setting("dataset.name", "data"), setting("dataset.split", "split")
FOUND_ON = Axis("heads found on", _found_on)

# Accuracy.


def _quantity(metric: Metric) -> Quantity:
    scale, decimals = metric.unit.value
    return Quantity(metric.plain_name, metric.label, estimate(metric.key), scale, decimals)


REC, RES = (_quantity(METRIC[key]) for key in PRIMARY)
ALL_METRICS = tuple(_quantity(metric) for metric in shown(Place.STUDIES).values())
"""For studies that are not the paper's."""
DIRECT_REC = Quantity("direct", "asked for the box", estimate("rec_acc@0.5", "direct_output"), 100)
HEADS_REC = Quantity("heads_rec", "localization heads", REC.of, 100)


def _unparsable(run: StudyRun) -> Measured:
    metrics = run.record.metrics
    if metrics is None or "direct_output" not in metrics.methods or not metrics.n_expressions:
        return None
    return metrics.n_empty / metrics.n_expressions


UNPARSABLE = Quantity("unparsable", "answers without a box, %", _unparsable, 100)

# Heads.


def _names(run: StudyRun) -> Measured:
    if run.record.heads is not None:
        return " ".join(str(head) for head in run.record.heads.heads)
    return " ".join(run.record.metrics.heads) or None if run.record.metrics else None


def _depth(run: StudyRun) -> Measured:
    """Mean layer of the heads, counted from 1, as a share of the model's layers."""
    heads = run.record.heads
    if heads is None:
        return None
    layers = len(heads.mean_attention_sum)
    return float(np.mean([(head.layer + 1) / layers for head in heads.heads]))


def _eligible(run: StudyRun) -> Measured:
    heads = run.record.heads
    return None if heads is None else f"{int(heads.eligible.sum())} of {heads.eligible.size}"


def _tau(run: StudyRun) -> Measured:
    heads = run.record.heads
    if heads is None:
        return None
    return NOT_DEFINED if heads.tau is None else heads.tau


HEADS = Quantity("heads", "heads", _names)
DEPTH = Quantity("depth", "mean layer of the heads, % of depth", _depth, 100, 0)
ELIGIBLE = Quantity("eligible", "eligible heads", _eligible)
TAU = Quantity("tau", "tau", _tau, decimals=3)

# The check of Fig. 6.


def _check(run: StudyRun) -> Figure6 | None:
    return run.record.metrics.figure6 if run.record.metrics else None


def _spearman(run: StudyRun) -> Measured:
    check = _check(run)
    if check is None:
        return None
    return check.spearman if check.spearman is not None and isfinite(check.spearman) else NOT_DEFINED


def _p_value(run: StudyRun) -> Measured:
    check = _check(run)
    return None if check is None else p_text(check.p_value).replace("\u00a0", " ").removeprefix("p ").removeprefix("= ")


def _n_heads(run: StudyRun) -> Measured:
    check = _check(run)
    return None if check is None else check.n_heads


SPEARMAN = Quantity("spearman", "Spearman", _spearman, decimals=2)
P_VALUE = Quantity("p", "p", _p_value)
N_HEADS = Quantity("n_heads", "heads with frequency >= 1 %", _n_heads, decimals=0)

# Time and memory, of the kind of pass with most expressions.


def _pass(run: StudyRun) -> dict[str, Any]:
    passes = run.timing.get("passes")
    return passes[0] if isinstance(passes, list) and passes and isinstance(passes[0], dict) else {}


def _milliseconds(run: StudyRun) -> Measured:
    timed = _pass(run)
    return 1000 * timed["seconds"] / timed["expressions"] if timed.get("expressions") else None


def _gib(run: StudyRun) -> Measured:
    peak = _pass(run).get("peak_bytes")
    return None if peak is None else peak / 2**30


TIME = Quantity("ms_per_expression", "ms per expression", _milliseconds)
MEMORY = Quantity("peak_gib", "peak memory, GiB", _gib, decimals=2)
DEVICE = Quantity("device", "device", lambda run: _pass(run).get("device"))

# Stability over discovery samples; a part per size.


def sizes(run: StudyRun) -> list[StudyRun]:
    """A part per size of stability.json."""
    found = run.stability.get("sizes")
    return [replace(run, part=size) for size in found if isinstance(size, dict)] if isinstance(found, list) else []


def _tops(run: StudyRun) -> list[set[str]]:
    return [set(top) for top in run.part.get("tops") or []]


def overlap(one: set[str], other: set[str]) -> float:
    """The share of heads that both have."""
    return len(one & other) / max(len(one), len(other), 1)


def _between_trials(run: StudyRun) -> Measured:
    pairs = list(combinations(_tops(run), 2))
    return float(np.mean([overlap(*pair) for pair in pairs])) if pairs else None


def _with_all(run: StudyRun) -> Measured:
    tops = _tops(run)
    final = set(str(_names(run) or "").split())
    return float(np.mean([overlap(top, final) for top in tops])) if tops and final else None


def _same_set(run: StudyRun) -> Measured:
    tops = _tops(run)
    final = set(str(_names(run) or "").split())
    return f"{sum(top == final for top in tops)} of {len(tops)}" if tops and final else None


N_SAMPLES = Axis("samples", lambda run: str(run.part.get("n")))
BETWEEN_TRIALS = Quantity("overlap_trials", "heads that two trials share, %", _between_trials, 100)
WITH_ALL = Quantity("overlap_all", "heads shared with all samples' choice, %", _with_all, 100)
SAME_SET = Quantity("same_set", "trials with exactly that choice", _same_set)
