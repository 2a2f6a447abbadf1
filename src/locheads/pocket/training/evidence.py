"""The evidence that localization heads formed in a pocket model: the study `python run.py experiment=pocket`.

After the sweep over criterion and selection (Table 5's layout) it asks the model questions, checks every aim set for
it and writes evidence.md and evidence.json into the sweep's folder."""

from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from locheads.evaluation.metric_table import METHODS, percent
from locheads.fitted_table import Row, fitted_table, label, words
from locheads.pipeline.sweep_runs import read_sweep
from locheads.records.heads_file import HeadsFile
from locheads.records.metrics_file import Estimate, MetricsRecord, spearman_text
from locheads.records.provenance_file import ProvenanceFile
from locheads.report.sweep_table import SweepRow
from locheads.store.atomic import write_json, write_text
from locheads.terminal import console

OUR_METHOD, CEILING, CENTRE = "localization_heads", "best_rec_heads", "centre_box"
RIVALS = ("random_heads", "mean_of_all_heads", CENTRE)
ACCURACY = "rec_acc@0.5"
PAPER = {"criterion": "s_img_entropy", "selection": "fixed"}
ALONE = ("s_img", "entropy")
LOW_SUM = 0.3  # attention sum of a head that looks elsewhere
COLUMNS = (ACCURACY, "rec_acc@0.25", "res_ciou", "pointing", "pointing_swapped")


@dataclass(frozen=True)
class Aim:
    """One aim, what came out, and whether it holds."""

    aim: str
    measured: str
    holds: bool


class EvidenceCallback(Callback):
    """Hydra callback, named in conf/experiment/pocket.yaml. Without a finished run there is nothing to write."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Prints the aims; writes evidence.md and evidence.json."""
        folder = Path(config.hydra.sweep.dir)
        runs = read_sweep(folder)
        paper = _run_by(runs, PAPER["criterion"])
        if paper is None:
            return
        evidence = gather(runs, paper)
        write_json(folder / "evidence.json", evidence)
        write_text(folder / "evidence.md", render(evidence))
        rows = [Row([aim["aim"], aim["measured"], "yes" if aim["holds"] else "NO"]) for aim in evidence["aims"]]
        columns = [*label("aim"), *words("measured", "holds")]
        console.print(fitted_table("Did localization heads form, as in real LVLMs?", columns, rows))
        console.print(f"Evidence: {folder / 'evidence.md'}", soft_wrap=True)


def gather(runs: list[SweepRow], paper: SweepRow) -> dict[str, Any]:
    """All numbers of the evidence, as plain values."""
    # Imported late: torch and transformers, which no other callback needs.
    from locheads.pocket.pocket_model import load_model
    from locheads.pocket.training.probe import answer_accuracy

    metrics, heads = MetricsRecord.read(paper.folder), HeadsFile.read(paper.folder)
    provenance = ProvenanceFile.read(paper.folder)
    answers = answer_accuracy(load_model(Path(provenance.model["source"])))
    aims = [*_aims(metrics, answers), _agreement(heads), *_likeness(metrics, heads, runs)]
    return {
        "aims": [asdict(aim) for aim in aims],
        "answers": answers,
        "methods": {method.label: _row(metrics, name) for name, method in METHODS.items() if name in metrics.methods},
        "table5": [_table5_row(run) for run in runs],
        "figure6": spearman_text(metrics.figure6),
        "heads": list(metrics.heads),
        "best_rec_heads": list(metrics.best_rec_heads), "best_iou_heads": list(metrics.best_iou_heads),
        "n_images": metrics.n_images, "n_expressions": metrics.n_expressions,
        "chance": percent(_value(metrics, OUR_METHOD, "pointing_chance")),
        "made_from": heads.made_from,
        "command": " ".join(["python run.py", *_overrides(paper)]),
        "commit": provenance.commit, "started": provenance.started, "hardware": provenance.hardware,
    }  # fmt: skip


def render(evidence: dict[str, Any]) -> str:
    """evidence.md."""
    template = (resources.files("locheads.pocket") / "evidence.md.j2").read_text()
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(**evidence)


def _aims(metrics: MetricsRecord, answers: dict[str, dict[str, float]]) -> list[Aim]:
    found, best = metrics.methods[OUR_METHOD], metrics.methods[CEILING]
    accuracy, pointing, swapped = (found[name] for name in (ACCURACY, "pointing", "pointing_swapped"))
    share = accuracy.value / best[ACCURACY].value if best[ACCURACY].value else 0.0
    chance = _value(metrics, OUR_METHOD, "pointing_chance")
    return [
        Aim("answers without a mistake >= 90 %", _shown(answers["all"]), answers["all"]["value"] >= 0.9),
        Aim("REC Acc@0.5 >= 50 %", str(accuracy), accuracy.value >= 0.5),
        *(_beats(accuracy, metrics.methods[rival][ACCURACY], rival) for rival in RIVALS),
        Aim("at least 85 % of the best set's Acc@0.5", f"{percent(share)} %", share >= 0.85),
        Aim("pointing >= 80 %", str(pointing), pointing.value >= 0.8),
        Aim("expression swapped: pointing at chance or below", f"{swapped}, chance {percent(chance)}",
            swapped.low <= chance),
    ]  # fmt: skip


def _beats(found: Estimate, rival: Estimate, name: str) -> Aim:
    beats = f"beats {METHODS[name].label.lower()}, intervals apart"
    return Aim(beats, f"{found} against {rival}", found.low > rival.high)


def _agreement(heads: HeadsFile) -> Aim:
    tops = [set(top) for top in heads.top_per_trial]
    return Aim(
        f"{len(tops)} trials agree on the top {heads.k}",
        "; ".join(" ".join(top) for top in heads.top_per_trial),
        all(top == tops[0] for top in tops),
    )


def _likeness(metrics: MetricsRecord, heads: HeadsFile, runs: list[SweepRow]) -> list[Aim]:
    """What the paper reports of real LVLMs: few heads localize, most rest, one criterion alone is worse."""
    mean = metrics.methods["mean_of_all_heads"][ACCURACY]
    sums = np.array(heads.mean_attention_sum)
    alone = [_run_by(runs, criterion) for criterion in ALONE]
    low, rho = float((sums < LOW_SUM).mean()), metrics.figure6.spearman if metrics.figure6 else None
    return [
        Aim("mean of all heads below 40 %", str(mean), mean.value < 0.4),
        Aim(f"attention sum below {LOW_SUM}: 40 % of all heads or more", f"{percent(low)} %", low >= 0.4),
        Aim("threshold tau between 0.1 and 0.5", f"{heads.tau or 0:.2f}", 0.1 <= (heads.tau or 0) <= 0.5),
        Aim("Spearman, frequency and IoU >= 0.7", "not defined" if rho is None else f"{rho:.2f}", (rho or 0) >= 0.7),
        *(_over(metrics, run.metrics, run.overrides["criterion"]) for run in alone if run and run.metrics),
    ]


def _run_by(runs: list[SweepRow], criterion: str) -> SweepRow | None:
    """The finished run with this criterion and else the paper's settings."""
    wanted = (PAPER | {"criterion": criterion}).items()
    return next((run for run in runs if not run.error and run.overrides.items() >= wanted), None)


def _over(metrics: MetricsRecord, other: MetricsRecord, criterion: str) -> Aim:
    """By the estimates; `locheads.pocket.training.measure` has the interval of the difference, in pairs."""
    both, alone = metrics.methods[OUR_METHOD][ACCURACY], other.methods[OUR_METHOD][ACCURACY]
    return Aim(f"both criteria above {criterion} alone", f"{both} against {alone}", both.value > alone.value)


def _row(metrics: MetricsRecord, method: str) -> dict[str, str]:
    estimates = {name: metrics.get(method, name) for name in COLUMNS}
    return {name: str(estimate) if estimate else "" for name, estimate in estimates.items()}


def _table5_row(run: SweepRow) -> dict[str, Any]:
    shown = {key: run.overrides.get(key, "") for key in PAPER}
    if run.metrics is None:
        return shown | {"heads": "", "found": {"error": run.reason} | dict.fromkeys(COLUMNS[1:], "")}
    return shown | {"heads": " ".join(run.metrics.heads), "found": _row(run.metrics, OUR_METHOD)}


def _shown(share: dict[str, float]) -> str:
    return str(Estimate(share["value"], share["low"], share["high"]))


def _value(metrics: MetricsRecord, method: str, metric: str) -> float:
    return metrics.methods[method][metric].value


def _overrides(run: SweepRow) -> list[str]:
    overrides = yaml.safe_load((run.folder / "overrides.yaml").read_text()) or []
    return [override for override in overrides if override.partition("=")[0] not in PAPER]
