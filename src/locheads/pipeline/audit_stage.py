"""stage=audit: which of the choices after the attention pass matter, and how much, from the store alone."""

import dataclasses
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from locheads.audit.choice_grid import Change, Choice, combinations
from locheads.audit.config import EMPTY_GRID, Grid
from locheads.audit.effect_table import audit_frame, audit_record
from locheads.audit.effects import AuditPlan, criterion_key, head_key, measure
from locheads.config import Config, check
from locheads.discovery.config import SelectionKind
from locheads.discovery.frequencies import discover, top_heads
from locheads.discovery.scores import score, stack_scores
from locheads.errors import ConfigError, DiscoveryError
from locheads.grounding.config import Sinks
from locheads.grounding.sinks import find_sinks
from locheads.pipeline.run_files import write_parquet
from locheads.pipeline.setup import Failures, Setup, failed_in
from locheads.records.audit_file import AuditFile
from locheads.report.figures import audit_effects
from locheads.report.run_record import read_run
from locheads.report.theme import to_png
from locheads.store.atomic import write_bytes, write_text
from locheads.store.attention_store import AttentionStore
from locheads.terminal import track
from locheads.text import csv_text
from locheads.types import Discovery, HeadScores, ImageGroup

CHUNK = 16
"""Images that are measured at once: with seven expressions each, steps over some 100 samples. By calculation half a
GB for LLaVA-1.5-7B's maps of all heads, and as much for a lattice of 336 x 336."""
MOST_WORKERS = 8
"""Unless audit.workers says otherwise."""


def audit_stage(run: Setup, failures: Failures) -> None:
    """Measures every combination -> audit.parquet, audit.csv, audit.json, audit.png."""
    start, config = time.perf_counter(), run.config
    choices = choices_of(config)
    plan, errors = _plan(run, choices)
    sums = _measure(run, plan)
    evaluation, groups = config.evaluation, run.inputs.evaluated
    frame = audit_frame(
        choices,
        # In the order in which `ratio_interval` has the images, so that sums round alike.
        sums[:, np.argsort([group.image_id for group in groups], kind="stable")],
        errors,
        [_heads_text(plan, choice) for choice in choices],
        confidence=evaluation.confidence,
    )
    facts = {
        "split": config.dataset.split,
        "n_images": len(groups),
        "n_expressions": sum(len(group.samples) for group in groups),
        "n_failed": len(failed_in(groups, failures)),
        "confidence": evaluation.confidence,
        "mode": config.audit.mode.value,
        "seconds": round(time.perf_counter() - start, 1),
    }
    write_parquet(run.folder / "audit.parquet", frame)
    write_text(run.folder / "audit.csv", csv_text(frame))
    AuditFile.parse(audit_record(choices, frame, config.audit, facts)).write(run.folder)
    write_bytes(run.folder / "audit.png", to_png(audit_effects(read_run(run.folder))))


def choices_of(config: Config) -> list[Choice]:
    """All combinations, the run's own settings first. Raises ConfigError for a value that makes no sense."""
    options, singles = options_of(config.audit.grid), options_of(config.audit.single)
    choices = combinations(base_choice(config), options, singles, config.audit)
    if len(choices) == 1:
        raise ConfigError(EMPTY_GRID)
    for choice in choices:
        _check_choice(config, choice)
    return choices


def base_choice(config: Config) -> Choice:
    """The run's own settings: the paper's reading, unless its settings say otherwise."""
    return Choice(config.criterion, config.selection, config.heads.k, config.grounding)


def options_of(grid: Grid) -> list[list[Change]]:
    """The values with the types of the schema. Raises ConfigError for one that does not fit."""
    schema = OmegaConf.structured(Config)
    options = []
    for group, settings in grid.items():
        for key, values in settings.items():
            found = [_change(schema, group, key, value) for value in values]
            options += [found] if found else []
    return options


def _change(schema: Any, group: str, key: str, value: Any) -> Change:
    plain = value if isinstance(value, dict) else {key: value}
    try:
        merged = OmegaConf.to_object(OmegaConf.merge(schema, {group: plain}))
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"The audit cannot set {group}.{key} to {value!r}: {reason}.") from error
    assert isinstance(merged, Config)
    return Change(f"{group}.{key}", {name: getattr(getattr(merged, group), name) for name in plain})


def _check_choice(config: Config, choice: Choice) -> None:
    """Every combination keeps the rules that a run would. Raises ConfigError with the first that it breaks."""
    heads = dataclasses.replace(config.heads, k=choice.k)
    own: dict[str, Any] = {"criterion": choice.criterion, "selection": choice.selection}
    check(dataclasses.replace(config, **own, heads=heads, grounding=choice.grounding))


def _plan(run: Setup, choices: Sequence[Choice]) -> tuple[AuditPlan, dict[int, str]]:
    """-> (what the workers need, why some choices have no heads)."""
    discoveries, failed = _discoveries(run, choices)
    heads, errors = {}, {}
    for number, choice in enumerate(choices):
        if criterion_key(choice) in failed:
            errors[number] = failed[criterion_key(choice)]
            continue
        try:
            heads[head_key(choice)] = tuple(top_heads(discoveries[criterion_key(choice)], choice.k))
        except DiscoveryError as error:
            errors[number] = str(error)
    groundings = [choice.grounding for choice in choices]
    factors = {g.sink_factor for g in groundings if g.sinks == Sinks.mean_map}
    read = lambda name: run.store.read(track(run.inputs.discovery, name, "images"))  # noqa: E731
    sinks = {factor: find_sinks(read("mean maps"), factor) for factor in sorted(factors)}
    return AuditPlan(tuple(choices), heads, discoveries, sinks), errors


def _discoveries(run: Setup, choices: Sequence[Choice]) -> tuple[dict[str, Discovery], dict[str, str]]:
    """Per `criterion_key` what was discovered, or why nothing; the store is read once for all of them."""
    criteria = {criterion_key(choice): choice.criterion for choice in choices}
    entropies = {c.numbers_key(): c for c in criteria.values()}
    parts: dict[tuple[str, ...], list[HeadScores]] = {key: [] for key in entropies}
    for attention in run.store.read(track(run.inputs.discovery, "scores", "images")):
        for key, criterion in entropies.items():
            parts[key].append(score(attention, criterion))
    scores = {key: stack_scores(found) for key, found in parts.items()}
    found: dict[str, Discovery] = {}
    failed: dict[str, str] = {}
    for name, criterion in criteria.items():
        own = scores[criterion.numbers_key()]
        try:
            found[name] = discover(own, run.inputs.positions(own), criterion)
        except DiscoveryError as error:
            failed[name] = str(error)
    return found, failed


def _measure(run: Setup, plan: AuditPlan) -> np.ndarray:
    """[choice, image, sum] over all images of the split."""
    groups = run.inputs.evaluated
    chunks = [groups[start : start + CHUNK] for start in range(0, len(groups), CHUNK)]
    workers = min(run.config.audit.workers or min(os.cpu_count() or 1, MOST_WORKERS), len(chunks))
    work = f"parts of {CHUNK} images"
    if workers <= 1:
        _prepare(run.store, plan)
        return np.concatenate([_work(chunk) for chunk in track(chunks, "audit", work)], axis=1)
    # Not forked: torch has threads, which a fork would leave behind half-way.
    with ProcessPoolExecutor(workers, get_context("spawn"), _prepare, (run.store, plan)) as pool:
        results = pool.map(_work, chunks)
        return np.concatenate([next(results) for _ in track(chunks, "audit", work)], axis=1)


_works: list[tuple[AttentionStore, AuditPlan]] = []
"""What every chunk needs; sent to a worker once."""


def _prepare(store: AttentionStore, plan: AuditPlan) -> None:
    _works[:] = [(store, plan)]


def _work(chunk: list[ImageGroup]) -> np.ndarray:
    ((store, plan),) = _works
    return measure(chunk, store.read(chunk), plan)


def _heads_text(plan: AuditPlan, choice: Choice) -> str:
    if choice.selection.kind == SelectionKind.greedy:
        return "each sample's own"
    return " ".join(map(str, plan.heads.get(head_key(choice), ())))
