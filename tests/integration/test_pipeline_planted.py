"""audit.plant: which criteria choose heads that look at one spot whatever is asked, on the pocket model."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import execute

from locheads.audit.config import AuditConfig
from locheads.config import Config, PathsConfig, Stage
from locheads.data.config import DatasetConfig
from locheads.dependence.config import DependenceConfig
from locheads.dependence.planted import Plant
from locheads.discovery.config import DiscoveryConfig
from locheads.models.engine import EngineConfig
from locheads.records.audit_file import AuditFile
from locheads.report.sweep_table import SweepRow, sweep_table
from locheads.terminal import PlainConsole

REC = "rec_acc@0.5"
FILTERED = {"score": "s_img_entropy", "min_dependence": 0.5}
Audit = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """audit.json, and by the value of criterion.score: REC, heads, how many of them are planted."""
    outputs = tmp_path_factory.mktemp("planted")

    def run(plant: Plant) -> dict[str, Any]:
        grid = {"criterion": {"score": ["words", FILTERED]}}
        config = Config(
            dataset=DatasetConfig(limit=80),
            discovery=DiscoveryConfig(n_samples=60, trials=1),
            dependence=DependenceConfig(images=24),
            engine=EngineConfig(device="cpu", threads=1, processes=1),
            audit=AuditConfig(grid=grid, single={}, plant=plant),
            paths=PathsConfig(outputs=str(outputs), cache=str(outputs / "cache")),
            stage=Stage.audit,
        )
        folder = tmp_path_factory.mktemp("run") / "run"
        execute(config, folder)
        record = json.loads((folder / "audit.json").read_text())
        rows = {"paper": record["base"], **{row["value"]: row for row in record["effects"]}}
        found = {
            name.split(",")[0] + ("+" if "min" in name else ""): (
                row["metrics"][REC]["value"],
                len(set(row["heads"].split()) & set(record["planted"])),
                record["follows"].get(row["heads"]),
            )
            for name, row in rows.items()
        }
        return {**record, "found": found, "folder": folder}

    return run


@pytest.fixture(scope="module")
def clean(audit: Audit) -> dict[str, Any]:
    return audit(Plant.none)


def test_nothing_is_planted_unless_it_is_asked_for(clean: dict[str, Any]) -> None:
    assert clean["plant"] == "none" and clean["planted"] == [] and clean["follows"] == {}


@pytest.mark.parametrize("kind", [Plant.fixed_spot, Plant.border_row, Plant.by_wording, Plant.by_length])
def test_the_papers_criteria_choose_them_and_those_that_ask_for_dependence_do_not(
    kind: Plant, audit: Audit, clean: dict[str, Any]
) -> None:
    record = audit(kind)
    found = record["found"]
    assert len(record["planted"]) == 5  # a tenth of 48
    rec, planted, follows = found["paper"]
    assert planted == 3 and rec < 0.3 and follows != "follow"
    for name in ("words", "s_img_entropy+"):
        rec, planted, _ = found[name]
        assert planted == 0 and rec > clean["found"][name][0] - 0.15


def test_heads_that_point_at_another_object_fool_every_criterion(audit: Audit) -> None:
    """What the docs say cannot be seen."""
    found = audit(Plant.other_object)["found"]
    assert found["words"][1] == found["paper"][1] == 3
    assert found["words"][2] == "follow" and found["words"][0] < 0.2


def test_what_planting_changes_is_paired_with_the_same_choice_before(audit: Audit, clean: dict[str, Any]) -> None:
    planted = audit(Plant.border_row)
    assert clean["base"]["metrics"][REC]["planting"] is None
    for now, before in zip([planted["base"], *planted["effects"]], [clean["base"], *clean["effects"]], strict=True):
        found, change = now["metrics"][REC], now["metrics"][REC]["planting"]
        assert change["value"] == pytest.approx(found["value"] - before["metrics"][REC]["value"], abs=1e-12)
        assert change["low"] <= change["value"] <= change["high"]
    assert planted["base"]["metrics"][REC]["planting"]["high"] < -0.3
    assert planted["base"]["metrics"][REC]["difference"]["value"] == 0


def test_a_sweep_is_one_table_of_choices_with_what_planting_changes(audit: Audit, clean: dict[str, Any]) -> None:
    records = {"none": clean, "border_row": audit(Plant.border_row)}
    rows = [
        SweepRow({"audit.plant": k}, r["folder"], None, None, audit=AuditFile.read(r["folder"]))
        for k, r in records.items()
    ]
    rows.append(SweepRow({"audit.plant": "jitter"}, Path("x"), None, "disk full"))
    console = PlainConsole(file=io.StringIO(), width=100, color_system=None)
    console.print(sweep_table(rows))
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    before, after = (line for line in lines if "this run's settings" in line)
    assert lines.index("nothing") < lines.index(before) and before.endswith("0 of 3")
    assert lines.index(before) < lines.index("5 border_row") < lines.index(after)
    assert "] -" in after and after.endswith("3 of 3 same place")
    assert any(line.startswith("audit.plant=jitter: disk full") for line in lines)
