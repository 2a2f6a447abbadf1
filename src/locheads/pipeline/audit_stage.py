"""stage=audit: which of the choices after the attention pass matter, and how much, from the store alone."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from locheads.audit.choice_grid import Change, Choice, combinations
from locheads.audit.config import EMPTY_GRID, Grid
from locheads.audit.effect_table import audit_frame, audit_record
from locheads.audit.effects import AuditPlan, criterion_key, head_key, heads_to_read, measure, own_heads
from locheads.config import Config, check
from locheads.dependence.head_dependence import HeadDependence
from locheads.dependence.word_verdict import Follows
from locheads.discovery.config import CriterionConfig, SelectionKind
from locheads.discovery.frequencies import discover, top_heads
from locheads.discovery.scores import stack_scores, with_dependence
from locheads.errors import ConfigError, DiscoveryError
from locheads.grounding.config import Contrast, Sinks
from locheads.grounding.contrast import read_maps
from locheads.pipeline.head_numbers import head_numbers
from locheads.pipeline.planted_store import PlantedStore, planted_heads
from locheads.pipeline.processes import Each, in_parts, processes
from locheads.pipeline.run_files import write_parquet
from locheads.pipeline.setup import Failures, Setup, failed_in
from locheads.pipeline.sink_cells import sink_cells
from locheads.pipeline.word_pairs import measure_dependence, verdict_on
from locheads.records.audit_file import AuditFile
from locheads.report.figures import audit_effects
from locheads.report.run_record import read_run
from locheads.report.theme import to_png
from locheads.store.atomic import write_bytes, write_text
from locheads.store.attention_store import AttentionStore
from locheads.text import csv_text
from locheads.types import Attention, Discovery, HeadScores, ImageGroup

T = TypeVar("T")


def audit_stage(run: Setup, failures: Failures) -> None:
    """Measures every combination -> audit.parquet, audit.csv, audit.json, audit.png."""
    start, config, groups = time.perf_counter(), run.config, run.inputs.evaluated
    choices, planted, unplanted = choices_of(config), planted_heads(run), None
    if planted:
        _, without_heads, unplanted = _sums(run, choices)
        unplanted[[*without_heads]] = np.nan
        run = dataclasses.replace(run, store=PlantedStore(run, planted))
    plan, errors, sums = _sums(run, choices)
    heads = [_heads_text(plan, choice) for choice in choices]
    frame = audit_frame(choices, sums, errors, heads, confidence=config.evaluation.confidence, unplanted=unplanted)
    facts = {
        "split": config.dataset.split,
        "n_images": len(groups),
        "n_expressions": sum(len(group.samples) for group in groups),
        "n_failed": len(failed_in(groups, failures)),
        "confidence": config.evaluation.confidence,
        "mode": config.audit.mode.value,
        "plant": config.audit.plant.value,
        "planted": list(map(str, planted)),
        "follows": _follows(run, plan) if planted else {},
        "seconds": round(time.perf_counter() - start, 1),
    }
    write_parquet(run.folder / "audit.parquet", frame)
    write_text(run.folder / "audit.csv", csv_text(frame))
    AuditFile.parse(audit_record(choices, frame, config.audit, facts)).write(run.folder)
    write_bytes(run.folder / "audit.png", to_png(audit_effects(read_run(run.folder))))


def _sums(run: Setup, choices: Sequence[Choice]) -> tuple[AuditPlan, dict[int, str], np.ndarray]:
    """-> (plan, why some choices have no heads, sums [choice, image, metric, 2] as `measure` gives them)."""
    groups = run.inputs.evaluated
    with processes(run.store, run.config.engine.processes, max(len(groups), len(run.inputs.discovery))) as each:
        plan, errors = _plan(run, choices, each)
        sums = np.concatenate([*in_parts(each, partial(_measure, plan), groups, "audit")], axis=1)
    # In the order in which `ratio_interval` has the images, so that sums round alike.
    return plan, errors, sums[:, np.argsort([group.image_id for group in groups], kind="stable")]


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
    whole = OmegaConf.structured(Config)
    options = []
    for group, settings in grid.items():
        schema = OmegaConf.structured(OmegaConf.get_type(whole, group))
        for key, values in settings.items():
            found = [_change(schema, group, key, value) for value in values]
            options += [found] if found else []
    return options


def _change(schema: Any, group: str, key: str, value: Any) -> Change:
    plain = value if isinstance(value, dict) else {key: value}
    try:
        merged = OmegaConf.to_object(OmegaConf.merge(schema, plain))
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"The audit cannot set {group}.{key} to {value!r}: {reason}.") from error
    return Change(f"{group}.{key}", {name: getattr(merged, name) for name in plain})


def _check_choice(config: Config, choice: Choice) -> None:
    """Every combination keeps the rules that a run would. Raises ConfigError with the first that it breaks."""
    heads = dataclasses.replace(config.heads, k=choice.k)
    own: dict[str, Any] = {"criterion": choice.criterion, "selection": choice.selection}
    check(dataclasses.replace(config, **own, heads=heads, grounding=choice.grounding))


def _plan(run: Setup, choices: Sequence[Choice], each: Each) -> tuple[AuditPlan, dict[int, str]]:
    """-> (what the workers need, why some choices have no heads)."""
    dependence = measure_dependence(run)
    discoveries, failed = _discoveries(run, choices, dependence, each)
    heads, errors = {}, {}
    for number, choice in enumerate(choices):
        if criterion_key(choice) in failed:
            errors[number] = failed[criterion_key(choice)]
            continue
        try:
            heads[head_key(choice)] = tuple(top_heads(discoveries[criterion_key(choice)], choice.k))
        except DiscoveryError as error:
            errors[number] = str(error)
    factors = (c.grounding.sink_factor for c in choices if c.grounding.sinks == Sinks.mean_map)
    plan = AuditPlan(tuple(choices), heads, discoveries, sink_cells(run, factors, each), dependence)
    return plan, errors


def _discoveries(
    run: Setup, choices: Sequence[Choice], dependence: HeadDependence | None, each: Each
) -> tuple[dict[str, Discovery], dict[str, str]]:
    """Per `criterion_key` what was discovered, or why nothing; the store is read once for all of them."""
    criteria = {criterion_key(choice): choice.criterion for choice in choices}
    by_numbers = {c.numbers_key(): c for c in criteria.values()}
    parts = [*in_parts(each, partial(_scores, [*by_numbers.values()]), run.inputs.discovery, "scores")]
    scores = {key: stack_scores([part[key] for part in parts]) for key in by_numbers}
    found: dict[str, Discovery] = {}
    failed: dict[str, str] = {}
    for name, criterion in criteria.items():
        own = with_dependence(scores[criterion.numbers_key()], dependence)
        try:
            found[name] = discover(own, run.inputs.positions(own), criterion)
        except DiscoveryError as error:
            failed[name] = str(error)
    return found, failed


def _scores(
    criteria: list[CriterionConfig], store: AttentionStore, chunk: list[ImageGroup]
) -> dict[tuple[str, ...], HeadScores]:
    """By the `numbers_key` of each criterion, the run's own first."""
    return dict(zip([c.numbers_key() for c in criteria], head_numbers(store, chunk, criteria), strict=True))


def _measure(plan: AuditPlan, store: AttentionStore, chunk: list[ImageGroup]) -> np.ndarray:
    """[choice, image, sum]; of most heads no more than numbers are read."""
    criteria = {c.criterion.numbers_key(): c.criterion for c in (plan.choices[0], *plan.greedy.values())}
    own = own_heads(_scores([*criteria.values()], store, chunk), plan) if plan.greedy else {}

    def read(how: Contrast) -> Iterator[Attention]:
        for group in chunk:
            heads = heads_to_read([sample.sample_id for sample in group.samples], plan, own)
            yield from read_maps(store.read, group, how, heads)

    return measure(chunk, read, plan, own)


def _follows(run: Setup, plan: AuditPlan) -> dict[str, Follows]:
    """Of every set of heads that a choice found."""
    verdicts = {heads: verdict_on(run, heads) for heads in plan.heads.values()}
    return {" ".join(map(str, heads)): verdict.follows for heads, verdict in verdicts.items()}


def _heads_text(plan: AuditPlan, choice: Choice) -> str:
    if choice.selection.kind == SelectionKind.greedy:
        return "each sample's own"
    return " ".join(map(str, plan.heads.get(head_key(choice), ())))
