"""The stages in their order: attend, discover, ground, evaluate, report. Each is a function from values to a value."""

from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from locheads.config import Config, Pages, Stage
from locheads.data.image_groups import merged
from locheads.discovery.frequencies import top_heads
from locheads.discovery.headset import HeadSet
from locheads.models.engine import ALL_MAPS
from locheads.pipeline.abstain import abstention
from locheads.pipeline.ask_until_stable import with_enough_samples
from locheads.pipeline.attend_stage import (
    attend_all_maps,
    attend_discovery,
    attend_few_maps,
    attend_for,
    attend_judged,
    attend_shards,
    grounded_groups,
    shards_status,
)
from locheads.pipeline.audit_stage import audit_stage
from locheads.pipeline.discover_stage import DiscoverResult, discover_heads, write_heads
from locheads.pipeline.evaluate_stage import evaluate_stage
from locheads.pipeline.found_model import found_record
from locheads.pipeline.ground_stage import ground_stage
from locheads.pipeline.head_plan import plan_heads, with_own_heads
from locheads.pipeline.loader import Loader
from locheads.pipeline.prepare import prepare
from locheads.pipeline.processes import processes, this_process
from locheads.pipeline.receipt import find_done, receipt_key, take_over, write_receipt
from locheads.pipeline.run_life import Started, Status, recorded_provenance
from locheads.pipeline.second_look_stage import look_again
from locheads.pipeline.setup import Failures, Setup
from locheads.pipeline.timing import write_timing
from locheads.pipeline.word_pairs import check_required, judge_heads, measure_dependence
from locheads.records.follows import FollowsRecord, JudgementFile
from locheads.report.html import PAGE, write_report
from locheads.store.digest import json_digest
from locheads.store.store_files import DamagedShard
from locheads.terminal import track
from locheads.types import HeadIndex

WORTH = 128
"""Images to ground for which another process is worth its start."""


def run_stages(config: Config, folder: Path, status: Status, earlier: Path | None, started: Started) -> None:
    """Runs all stages up to `config.stage`, or takes over a run that has done the same; see `cli.dispatch`."""
    with recorded_provenance(folder) as record:
        setup = prepare(config, folder, record)
        key = receipt_key(config, setup.digest, setup.inputs)
        # The result of the attention pass is the store, which a receipt does not vouch for.
        vouched = config.stage not in (Stage.attend, Stage.status)
        done = find_done(earlier, key) if earlier is not None and vouched else None
        if done is None:
            started(json_digest(key))
            failures = _run_past_damage(setup, status)
            record["model"] |= found_record(setup.store.folder)
    if done is not None:
        take_over(done, folder)
        status.replaced()
        if _has_pages(config) and not (folder / PAGE).exists():
            write_report(folder)
        return started(json_digest(key))
    # Before the page, which tells how the run ended and how long it took.
    status.finish()
    if _has_pages(config):
        with status.stage(Stage.report.value):
            write_report(folder)
    status.check_complete()
    write_receipt(folder, key, len(failures))


def _has_pages(config: Config) -> bool:
    return config.stage in (Stage.report, Stage.audit, Stage.direct) and config.report.pages != Pages.never


def _run_past_damage(setup: Setup, status: Status) -> Failures:
    """As `_run`; where a part of the store proves damaged, all that is damaged is computed again, and the stages start
    anew. Raises DamagedShard where what was just computed cannot be read back either."""
    try:
        return _run(setup, status)
    except DamagedShard as error:
        setup.store.set_aside(error.shard, error.why)
        groups = merged(setup.inputs.all_groups)
        setup.store.set_damaged_aside(track(groups, "checking the store", "images"))
    return _run(setup, status)


def _run(setup: Setup, status: Status) -> Failures:
    """-> the samples that failed."""
    stage, failures = setup.config.stage, Failures()
    match stage:
        case Stage.direct:
            from locheads.pipeline.direct import direct_stage  # only here: it loads torch

            with status.stage(stage):
                return direct_stage(setup)
        case Stage.status:
            with status.stage(stage):
                shards_status(setup)
        case Stage.attend if setup.config.shard.count > 1:
            with status.stage(stage):
                failures = attend_shards(setup)
        case Stage.judge:
            failures = _judge_alone(setup, status)
        case Stage.steer:
            failures = _steer(setup, status)
        case Stage.attend | Stage.discover | Stage.ground | Stage.evaluate | Stage.report | Stage.audit:
            failures = _attend_to_evaluate(setup, status)
        case Stage.check | Stage.verify | Stage.compare | Stage.fetch:
            raise ValueError(f"stage={stage} is a command and has no attention maps")
        case _:
            assert_never(stage)
    write_timing(setup.folder, setup.store.folder)
    return failures


def _judge_alone(setup: Setup, status: Status) -> Failures:
    """stage=judge -> judgement.json: do the given heads follow the words, on a few images and without ground truth?"""
    heads, failures = setup.given_heads, Failures()
    if heads is None:
        raise ValueError("stage=judge needs given heads")
    with status.stage(Stage.judge):
        verdict = _judge_given(setup, Loader(setup.config), heads, failures)
        if verdict is not None:
            JudgementFile(verdict=verdict, source=heads.source, digest=setup.digest).write(setup.folder)
    check_required(setup, verdict)
    return failures


def _judge_given(setup: Setup, loader: Loader, given: HeadSet, failures: Failures) -> FollowsRecord | None:
    return _judge(setup, loader, given.heads[: setup.config.heads.k], failures)


def _judge_found(setup: Setup, loader: Loader, discovered: DiscoverResult, failures: Failures) -> FollowsRecord | None:
    """-> heads.json."""
    follows = _judge(setup, loader, top_heads(discovered.discovery, setup.config.heads.k), failures)
    write_heads(setup, discovered, follows, failures)
    return follows


def _judge(setup: Setup, loader: Loader, heads: Sequence[HeadIndex], failures: Failures) -> FollowsRecord | None:
    failures |= attend_judged(setup, loader, heads)
    return judge_heads(setup, heads)


def _steer(setup: Setup, status: Status) -> Failures:
    """stage=steer -> heads.json where the heads are not given, and steer.json."""
    from locheads.pipeline.steer_stage import steer_stage  # only here: it loads torch

    given, loader = setup.given_heads, Loader(setup.config)
    with status.stage(Stage.attend):
        setup = with_enough_samples(setup, loader)
        failures = attend_discovery(setup, loader)
    if given is None:
        with status.stage(Stage.discover):
            discovered = discover_heads(setup, failures)
            follows = _judge_found(setup, loader, discovered, failures)
        ranking, source = discovered.discovery.ranking(), "this run"
    else:
        ranking, source = list(given.heads), given.source
        follows = _judge_given(setup, loader, given, failures)
    check_required(setup, follows)
    with status.stage(Stage.steer):
        steer_stage(setup, ranking, source, measure_dependence(setup), loader.get(None))
    return failures


def _attend_to_evaluate(setup: Setup, status: Status) -> Failures:
    """attend -> discover (not where the heads are given) -> audit, or ground -> evaluate; up to the stage asked for.

    With discovery.until=stable its samples are asked in rounds before all else, and only as many as it takes are used.
    With engine.maps=all one pass of the model comes first. Where few maps are kept, discovery's samples are attended,
    the heads are discovered, and then the evaluated samples are attended.
    """
    last, few_maps = setup.config.stage, setup.config.engine.maps != ALL_MAPS
    loader = Loader(setup.config)
    with status.stage(Stage.attend):
        setup = with_enough_samples(setup, loader)
        attended = attend_few_maps(setup, loader) if few_maps else attend_all_maps(setup, loader)
    failures, discovered, plan = attended.failures, attended.discovered, attended.plan
    if last == Stage.attend:
        return failures
    if setup.given_heads is None:
        with status.stage(Stage.discover):
            discovered = discovered or discover_heads(setup, failures)
            follows = _judge_found(setup, loader, discovered, failures)
    else:
        with status.stage(Stage.judge):
            follows = _judge_given(setup, loader, setup.given_heads, failures)
    check_required(setup, follows)
    if last == Stage.audit:
        with status.stage(Stage.audit):
            audit_stage(setup, failures)
    if last in (Stage.discover, Stage.audit):
        return failures
    with status.stage(Stage.ground):
        if few_maps and plan is None:
            plan = plan_heads(setup, discovered, this_process(setup.store))
            failures |= attend_for(setup, loader, grounded_groups(setup), discovered, plan, failures)
        with processes(setup.store, setup.config.engine.processes, len(setup.inputs.evaluated), WORTH) as each:
            plan = with_own_heads(setup, discovered, plan or plan_heads(setup, discovered, each), failures)
            none, views = abstention(setup, plan), look_again(setup, loader, plan, failures)
            scored = ground_stage(setup, plan, failures, each, views, none)
    if last != Stage.ground:
        with status.stage(Stage.evaluate):
            evaluate_stage(setup, discovered, plan, failures, scored, follows, views, none)
    return failures
