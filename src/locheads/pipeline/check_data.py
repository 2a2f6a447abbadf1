"""stage=check: looks the data set over, without a model, and prints a table of verdicts."""

import logging
from collections import Counter
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from locheads.config import Config, Stage
from locheads.data.checks import (
    THIRD_PARTY,
    CheckResult,
    CheckState,
    check_kinds,
    check_review,
    check_samples,
    official_counts,
    official_kinds,
    official_objects,
)
from locheads.data.config import Reader
from locheads.data.guard import group_keys
from locheads.data.image_groups import exclude_images, without_absent
from locheads.data.own_reader import DataSetReader
from locheads.data.review import PUBLISHED
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.fitted_table import Row, fitted_table, label, words
from locheads.models.adapters import Sharing
from locheads.pipeline.draw_costs import draw_costs
from locheads.pipeline.inputs import excluded_images, image_folders, open_dataset
from locheads.pipeline.run_life import Status
from locheads.records.command_files import CheckFile
from locheads.terminal import console
from locheads.types import ImageGroup
from locheads.workers.split_work import token_cost

log = logging.getLogger(__name__)

_COLOURS = {CheckState.ok: "green", CheckState.warn: "yellow", CheckState.fail: "bold red"}


def check_dataset(config: Config, folder: Path, status: Status) -> None:
    """Reads every split (of a hub copy: the evaluated one), prints the verdicts and writes check.json.

    Raises:
        DataError: a verdict is FAIL, or the data set cannot be read at all.
    """
    with status.stage(Stage.check):
        verdicts = collect(config, open_dataset(config.dataset, config.paths, config.seed))
        CheckFile.parse({"points": [vars(verdict) for verdict in verdicts]}).write(folder)
        console.print(table(config.dataset.name, verdicts))
        if failed := sum(verdict.state == CheckState.fail for verdict in verdicts):
            raise DataError(
                f"{failed} of the {len(verdicts)} checks of {config.dataset.name} failed: see the table above."
            )


def collect(config: Config, data: DataSetReader) -> list[CheckResult]:
    """The verdicts in the order of the table."""
    dataset, official = config.dataset, official_counts(config.dataset.official)
    verdicts: list[CheckResult] = []
    ids: Counter[str] = Counter()
    flags: Counter[bool | None] = Counter()
    keys: dict[str, set[str]] = {}
    drawn_from: list[ImageGroup] = []
    folders = image_folders(dataset, config.paths)
    for split in _splits(config, data):
        tally = Tally(counting=True)
        groups = data.read(split, tally)
        of_objects = official_objects(dataset.official).get(split)
        verdicts += check_samples(
            split, groups, tally, official.get(split), dataset.check_images, folders, of_objects,
            dataset.official.endswith(THIRD_PARTY),
        )  # fmt: skip
        if kinds := check_kinds(split, groups, official_kinds(dataset.official, split)):
            verdicts.append(kinds)
        ids.update(sample.sample_id for group in groups for sample in group.samples)
        flags.update(sample.faulty for group in groups for sample in group.samples)
        keys[split] = group_keys(groups)
        drawn_from = without_absent(groups) if split == dataset.discovery_split else drawn_from
    if dataset.reader != Reader.hub:  # of a hub copy one split is read
        verdicts += [_absent(split) for split in official if split not in keys]
    if len(keys) > 1:
        verdicts.append(_ids_of_all(ids))
    if {*flags} - {None}:
        verdicts.append(check_review(flags, PUBLISHED.get(dataset.official)))
    if dataset.split in keys and dataset.discovery_split in keys:
        guard = excluded_images(config, keys[dataset.split])
        verdicts.append(_leakage(config, keys[dataset.discovery_split], guard))
        if left := exclude_images(drawn_from, set().union(*guard.values()))[0]:
            verdicts.append(_draws(config, left))
    return verdicts + [CheckResult("all", "known defects", CheckState.warn, note) for note in data.notes]


def table(name: str, verdicts: list[CheckResult]) -> RenderableType:
    """The verdicts as a table for the terminal."""
    rows = [Row([v.split, v.question, Text(v.state, style=_COLOURS[v.state]), v.text]) for v in verdicts]
    columns = [*label("split", "question", "verdict"), *words("what was found")]
    return fitted_table(f"{name}: {_summary(verdicts)}", columns, rows)


def _summary(verdicts: list[CheckResult]) -> str:
    counts = Counter(verdict.state for verdict in verdicts)
    return ", ".join(f"{counts[state]} {state}" for state in CheckState)


def _splits(config: Config, data: DataSetReader) -> list[str]:
    dataset = config.dataset
    # The other splits of a hub copy may be gigabytes away.
    splits = [] if dataset.reader == Reader.hub else data.splits()
    return splits or [dataset.split]


def _absent(split: str) -> CheckResult:
    return CheckResult(split, "counts", CheckState.warn, "published, but not in these files")


def _ids_of_all(ids: Counter[str]) -> CheckResult:
    twice = [key for key, count in ids.items() if count > 1]
    text = f"{len(twice):,} sample ids are in several splits (first: {twice[0]})" if twice else "all different"
    return CheckResult("all", "ids", CheckState.fail if twice else CheckState.ok, text)


def _draws(config: Config, left: list[ImageGroup]) -> CheckResult:
    """For a model that reads an image once for all its expressions, as most do: which one it is is not looked at."""
    cost = token_cost(Sharing.packed, config.model, config.prompt)
    return CheckResult("all", "discovery's cost", CheckState.ok, draw_costs(config, left, cost))


def _leakage(config: Config, discovery: set[str], guard: dict[str, set[str]]) -> CheckResult:
    dataset = config.dataset
    left = len(discovery.difference(*guard.values()))
    shared = "; ".join(f"{len(discovery & keys):,} of {name}" for name, keys in guard.items() if discovery & keys)
    text = f"{left:,} of {len(discovery):,} images of {dataset.discovery_split} are left for discovery"
    return CheckResult(
        "all", "leakage guard", CheckState.ok if left else CheckState.fail, f"{text}; excluded: {shared or 'none'}"
    )
