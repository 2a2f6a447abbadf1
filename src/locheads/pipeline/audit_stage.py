"""stage=audit: which of the choices after the attention pass matter, and how much, from the store alone."""

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from locheads.audit.asked_prompts import AskedPrompt, asked_prompts, measure_prompts, prompt_records
from locheads.audit.choice_grid import Change, Choice, combinations
from locheads.audit.compatible import P, Variants, beside, target_columns, variants
from locheads.audit.config import EMPTY_GRID, GROUPS, LARGEST, Grid
from locheads.audit.effect_table import (
    audit_frame,
    audit_record,
    compatible_record,
    joint_confidences,
    picked_record,
)
from locheads.audit.effects import AuditPlan, OwnHeads, criterion_key, head_key, heads_to_read, measure, own_heads
from locheads.audit.paper_targets import paper_targets
from locheads.audit.targets import Target
from locheads.config import Config, check
from locheads.dependence.head_dependence import HeadDependence
from locheads.dependence.word_verdict import Follows
from locheads.discovery.config import CriterionConfig, SelectionKind
from locheads.discovery.frequencies import discover, top_heads
from locheads.discovery.scores import stack_scores, with_dependence
from locheads.errors import ConfigError, DiscoveryError, StoreError
from locheads.grounding.config import Contrast, Sinks
from locheads.grounding.contrast import read_maps
from locheads.pipeline.head_numbers import head_numbers
from locheads.pipeline.planted_store import PlantedStore, planted_heads
from locheads.pipeline.processes import Each, in_parts, processes
from locheads.pipeline.run_files import write_parquet
from locheads.pipeline.setup import Failures, Setup, failed_in
from locheads.pipeline.sink_cells import sink_cells
from locheads.pipeline.word_pairs import measure_dependence, verdict_on
from locheads.records.audit_file import AuditFile, AuditTarget
from locheads.report.figures import audit_effects
from locheads.report.run_record import read_run
from locheads.report.theme import to_png
from locheads.store.atomic import write_bytes, write_text
from locheads.store.attention_store import AttentionStore
from locheads.text import csv_text, reason
from locheads.types import Attention, Discovery, HeadScores, ImageGroup

T = TypeVar("T")
logger = logging.getLogger(__name__)
SAME = ("seed", "model", "prompt", "discovery", *GROUPS)
"""Groups of settings that audits of the same readings have in common."""


def audit_stage(run: Setup, failures: Failures) -> None:
    """Measures every combination -> audit.parquet, audit.csv, audit.json, audit.png."""
    start, config, groups = time.perf_counter(), run.config, run.inputs.evaluated
    choices, targets, planted, unplanted = choices_of(config), targets_of(config), planted_heads(run), None
    if planted:
        _, without_heads, unplanted = _sums(run, choices)
        unplanted[[*without_heads]] = np.nan
        run = dataclasses.replace(run, store=PlantedStore(run, planted))
    measured = with_variants(choices, targets)
    plan, errors, of_all = _sums(run, measured.choices)
    heads, sums = [_heads_text(plan, choice) for choice in choices], of_all[: len(choices)]
    confidence, own_errors = config.evaluation.confidence, {i: e for i, e in errors.items() if i < len(choices)}
    joint = joint_confidences(sums, own_errors, confidence, config.audit.seed)
    frame = audit_frame(choices, sums, own_errors, heads, confidence=confidence, joint=joint, unplanted=unplanted)
    frame = frame.assign(**target_columns(targets, measured.at, of_all, [*errors]))
    facts = {
        **picked_record(frame, sums, config.audit, next(iter(targets), None), confidence),
        **_held_against(config, frame, targets),
        "joint_confidence": joint,
        "split": config.dataset.split,
        "n_images": len(groups),
        "n_expressions": sum(len(group.samples) for group in groups),
        "n_failed": len(failed_in(groups, failures)),
        "confidence": confidence,
        "mode": config.audit.mode.value,
        "plant": config.audit.plant.value,
        "planted": list(map(str, planted)),
        "follows": _follows(run, plan) if planted else {},
        "prompts": _prompts(run, plan, prompts_of(config), errors.get(0)),
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


def _prompts(run: Setup, plan: AuditPlan, asked: Sequence[AskedPrompt], error: str | None) -> list[dict[str, Any]]:
    """What audit.json says of them; nothing where none is listed. `error`: why the run's own choice has no heads."""
    if not asked:
        return []
    if error is not None:
        logger.warning("What audit.prompts lists was not measured, as the run's own settings find no heads: %s", error)
        return []
    groups, own = run.inputs.evaluated, dataclasses.replace(plan, choices=plan.choices[:1])
    with processes(run.store, run.config.engine.processes, len(groups)) as each:
        parts = [*in_parts(each, partial(_measure_prompts, own, asked), groups, "prompts")]
    return prompt_records(asked, np.concatenate(parts, axis=1), run.config.evaluation.confidence)


def _held_against(config: Config, frame: pd.DataFrame, targets: Sequence[Target]) -> dict[str, Any]:
    """What audit.json says of the readings that are compatible with the targets; nothing without any."""
    split = f"{config.dataset.name} {config.dataset.split}"
    own = [
        AuditTarget(metric=t.metric, value=t.value, settings=t.changed, source=t.source, split=split, alone=0)
        for t in targets
    ]
    columns = [frame[[P.format(j) for j in range(len(own))]].to_numpy()]
    for folder in config.audit.beside:
        others, p = beside(Path(folder), frame)
        own += [target.model_copy(update={"beside": True}) for target in others]
        columns.append(p)
    if not own:
        return {}
    p = np.concatenate(columns, axis=1)
    return compatible_record(base_choice(config), frame, own, p, config.evaluation.confidence)


def check_beside(config: Config) -> None:
    """Raises ConfigError or StoreError for a folder of audit.beside that holds no audit of the same readings."""
    for folder in config.audit.beside:
        AuditFile.read(Path(folder))
        try:
            theirs = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(Path(folder) / "config.yaml"))
            other: Any = OmegaConf.to_object(theirs)
        except (OSError, OmegaConfBaseException) as error:
            raise StoreError(f"audit.beside: {folder}/config.yaml cannot be read ({reason(error)}).") from error
        if differing := [name for name in SAME if getattr(other, name) != getattr(config, name)]:
            raise ConfigError(f"audit.beside: {folder} was made with other settings of {', '.join(differing)}.")


def targets_of(config: Config) -> list[Target]:
    """The figures that a reading must give on the run's split. Raises ConfigError for one that makes no sense, and
    where audit.beside has nothing to stand beside."""
    audit, data = config.audit, (config.dataset.name, config.dataset.split)
    found = audit.own_targets()
    if audit.paper is not None:
        found += paper_targets(Path(config.paths.studies), audit.paper, data, audit.paper_metrics)
    for choice in (base_choice(config).changed(*_changes(target)) for target in found):
        _check_choice(config, choice)
    if config.audit.beside and not found:
        raise ConfigError("audit.beside adds the targets of other audits to the run's own: set audit.target, too.")
    return found


def with_variants(choices: Sequence[Choice], targets: Sequence[Target]) -> Variants:
    """All that is measured. Raises ConfigError where that is too much."""
    found = variants(choices, [_changes(target) for target in targets])
    if len(found.choices) > LARGEST:
        raise ConfigError(
            f"The audit's {len(choices)} combinations are {len(found.choices)} with the settings of its targets, more "
            f"than {LARGEST}: lower audit.n, or give it fewer targets with settings."
        )
    return found


def _changes(target: Target) -> list[Change]:
    """Its settings with the types of the schema."""
    places = ((*name.split("."), value) for name, value in target.settings.items())
    return [_change(_schema(group), group, key, value) for group, key, value in places]


def choices_of(config: Config) -> list[Choice]:
    """All combinations, the run's own settings first. Raises ConfigError for a value that makes no sense."""
    options, singles = options_of(config.audit.grid), options_of(config.audit.single)
    choices = combinations(base_choice(config), options, singles, config.audit)
    if len(choices) == 1:
        raise ConfigError(EMPTY_GRID)
    for choice in choices:
        _check_choice(config, choice)
    return choices


def prompts_of(config: Config) -> list[AskedPrompt]:
    """What audit.prompts lists, the run's own prompt first; nothing where it lists none. Raises ConfigError for a value
    that makes no sense."""
    options = options_of({"segmenter": config.audit.prompts})
    return asked_prompts(config.segmenter, options) if options else []


def base_choice(config: Config) -> Choice:
    """The run's own settings: the paper's reading, unless its settings say otherwise."""
    return Choice(config.criterion, config.selection, config.heads.k, config.grounding)


def options_of(grid: Grid) -> list[list[Change]]:
    """The values with the types of the schema. Raises ConfigError for one that does not fit."""
    options = []
    for group, settings in grid.items():
        schema = _schema(group)
        for key, values in settings.items():
            found = [_change(schema, group, key, value) for value in values]
            options += [found] if found else []
    return options


def _schema(group: str) -> Any:
    return OmegaConf.structured(OmegaConf.get_type(OmegaConf.structured(Config), group))


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
    own = _own_heads(plan, store, chunk)
    return measure(chunk, partial(_read, plan, own, store, chunk), plan, own)


def _measure_prompts(
    plan: AuditPlan, asked: Sequence[AskedPrompt], store: AttentionStore, chunk: list[ImageGroup]
) -> np.ndarray:
    """[prompt, image, sum] by the plan's only choice."""
    own = _own_heads(plan, store, chunk)
    return measure_prompts(chunk, _read(plan, own, store, chunk, plan.choices[0].grounding.contrast), plan, own, asked)


def _own_heads(plan: AuditPlan, store: AttentionStore, chunk: list[ImageGroup]) -> OwnHeads:
    if not plan.greedy:
        return {}
    criteria = {c.criterion.numbers_key(): c.criterion for c in (plan.choices[0], *plan.greedy.values())}
    return own_heads(_scores([*criteria.values()], store, chunk), plan)


def _read(
    plan: AuditPlan, own: OwnHeads, store: AttentionStore, chunk: list[ImageGroup], how: Contrast
) -> Iterator[Attention]:
    for group in chunk:
        heads = heads_to_read([sample.sample_id for sample in group.samples], plan, own)
        yield from read_maps(store.read, group, how, heads)


def _follows(run: Setup, plan: AuditPlan) -> dict[str, Follows]:
    """Of every set of heads that a choice found."""
    verdicts = {heads: verdict_on(run, heads) for heads in plan.heads.values()}
    return {" ".join(map(str, heads)): verdict.follows for heads, verdict in verdicts.items()}


def _heads_text(plan: AuditPlan, choice: Choice) -> str:
    if choice.selection.kind == SelectionKind.greedy:
        return "each sample's own"
    return " ".join(map(str, plan.heads.get(head_key(choice), ())))
