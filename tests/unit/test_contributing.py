"""No half of a change is forgotten: whatever has code has its settings file and its row in the documentation."""

import dataclasses
import importlib.util
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from locheads.data.config import Reader
from locheads.discovery.criteria import CRITERIA
from locheads.evaluation.metric_table import METRIC, Place, shown
from locheads.grounding.config import BoxRule, GroundingConfig, Resolution
from locheads.grounding.ground_maps import step_settings
from locheads.models.adapters import FAMILIES
from locheads.report.studies.layouts import LAYOUTS
from locheads.segmenters.config import SegmenterKind

ROOT = Path(__file__).parents[2]
CONF, DOCS = ROOT / "conf", ROOT / "docs"
NO_STUDY = {"audit_boxes", "planted_sinks", "pocket", "released_c0", "released_c1"}
"""Files of conf/experiment/ whose runs are joined into no table."""


def settings(group: str) -> dict[str, dict]:
    """File of the group -> what it says."""
    return {path.stem: yaml.safe_load(path.read_text()) or {} for path in CONF.glob(f"{group}/*.yaml")}


def quoted(page: Path) -> set[str]:
    """What the page has in backticks."""
    return set(re.findall(r"`([^`\n]+)`", page.read_text()))


def pocket_size() -> Any:
    """The module experiments/pocket_size.py."""
    spec = importlib.util.spec_from_file_location("pocket_size", ROOT / "experiments" / "pocket_size.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def first_lines_of_table(page: Path, heading: str) -> str:
    """The first cells of the rows below the heading."""
    return "\n".join(re.findall(r"^\| ([^|]+) \|", page.read_text().split(heading)[1], re.M))


def criteria(names: Iterable[str] = CRITERIA) -> list[str]:
    """Criteria without a file in conf/criterion/ that chooses them. The paper's is the default of the schema."""
    chosen = {content.get("score", "s_img_entropy") for content in settings("criterion").values()}
    return sorted(set(names) - chosen)


def segmenters(names: Iterable[str] = tuple(SegmenterKind)) -> list[str]:
    return sorted(set(names) - {content["kind"] for content in settings("segmenter").values()})


def readers(names: Iterable[str] = tuple(Reader)) -> list[str]:
    return sorted(set(names) - {content.get("reader", "pocket") for content in settings("dataset").values()})


def families(names: Iterable[str] = FAMILIES) -> list[str]:
    """Families without a row in the table of TEMPLATE.md."""
    page = ROOT / "src/locheads/models/adapters/TEMPLATE.md"
    rows = re.split(r"[\s,]+", first_lines_of_table(page, "## What is there"))
    return sorted(set(names) - set(rows))


def files_without_a_row(group: str, page: str, but: str = "") -> Callable[[Iterable[str]], list[str]]:
    return lambda names: sorted({*settings(group), *names} - {but} - quoted(DOCS / page))


def metrics(names: Iterable[str] = METRIC) -> list[str]:
    """Metrics whose key metrics.md does not name."""
    return sorted(set(names) - quoted(DOCS / "metrics.md"))


def summary(names: Iterable[str] = ()) -> list[str]:
    """Names in W&B's summary that wandb.md does not have."""
    logged = {metric.plain_name for metric in shown(Place.SUMMARY).values()}
    return sorted({*logged, *names} - quoted(DOCS / "wandb.md"))


def studies(names: Iterable[str] = LAYOUTS) -> list[str]:
    """Studies that lack their settings, their row in the index, or a README whose commands end with their tables."""
    index, files, of_readme = (ROOT / "experiments/README.md").read_text(), settings("experiment"), pocket_size()
    whole = {
        name
        for name in of_readme.studies()
        if files[name]["study"] == name
        and f"[{name}]({name}/README.md)" in index
        and all(f"experiment={name}" in words for words in of_readme.commands(name))
    }
    return sorted(whole ^ set(names))


def grounding(names: Iterable[str] = ()) -> list[str]:
    """Settings of grounding that no step of `step_settings` reads: two values of one would share a step's result."""
    read: set[str] = set()

    class Watched(GroundingConfig):
        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return super().__getattribute__(name)

    configs = Watched(), Watched(box=BoxRule.mass_quantiles, resolution=Resolution.input)
    read.clear()  # what the check of the values reads
    for config in configs:
        step_settings(config)
    # A label; and what decides the maps that the first step is handed.
    return sorted(
        {*(field.name for field in dataclasses.fields(GroundingConfig)), *names} - read - {"name", "sink_factor"}
    )


LACKING: dict[str, Callable[[Iterable[str]], list[str]]] = {
    "criterion: conf/criterion": criteria,
    "criterion: docs/ablations.md": files_without_a_row("criterion", "ablations.md"),
    "segmenter: conf/segmenter": segmenters,
    "segmenter: docs/masks.md": files_without_a_row("segmenter", "masks.md"),
    "segmenter: docs/ablations.md": files_without_a_row("segmenter", "ablations.md"),
    "reader: conf/dataset": readers,
    "data set: docs/data.md": files_without_a_row("dataset", "data.md", but="pocket"),
    "family: TEMPLATE.md": families,
    "model: docs/models.md": files_without_a_row("model", "models.md"),
    "metric: docs/metrics.md": metrics,
    "metric: docs/wandb.md": summary,
    "study: conf, README, index": studies,
    "setting: step_settings": grounding,
}
"""What is checked -> the names, of those that are there and of these, that lack it."""
THERE: dict[str, Iterable[str]] = {
    "criterion: conf/criterion": CRITERIA,
    "segmenter: conf/segmenter": tuple(SegmenterKind),
    "reader: conf/dataset": tuple(Reader),
    "family: TEMPLATE.md": FAMILIES,
    "metric: docs/metrics.md": METRIC,
    "study: conf, README, index": LAYOUTS,
}


@pytest.mark.parametrize("part", LACKING)
def test_nothing_of_what_is_there_lacks_its_other_half(part: str) -> None:
    assert LACKING[part](THERE.get(part, ())) == []


@pytest.mark.parametrize("part", LACKING)
def test_a_name_that_was_added_to_one_place_only_is_found(part: str) -> None:
    assert LACKING[part]([*THERE.get(part, ()), "forgotten"]) == ["forgotten"]


def test_every_experiment_is_a_study_or_none() -> None:
    """A file in conf/experiment/ without a layout would end its report with a sentence."""
    assert set(settings("experiment")) - NO_STUDY == set(LAYOUTS)
