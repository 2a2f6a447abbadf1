"""After a multirun: one table of all its runs, in the terminal and as a file in the sweep's folder."""

import sys
from pathlib import Path

import yaml

from locheads.errors import StoreError
from locheads.pipeline.receipt import DONE_BEFORE, OVERRIDES
from locheads.pipeline.run_files import write_parquet
from locheads.records.audit_file import AuditFile
from locheads.records.metrics_file import MetricsRecord
from locheads.records.provenance_file import ProvenanceFile, StatusFile
from locheads.records.receipt_file import PAGES, DoneBeforeFile, refuse_changed
from locheads.report.sweep_table import SweepRow, sweep_frame, sweep_table
from locheads.terminal import console

READ = ("status.json", "metrics.json", "audit.json", DONE_BEFORE, "provenance.json")


def summarise_sweep(folder: Path) -> list[str]:
    """Prints the table of a sweep's runs and writes sweep.parquet. -> the folders of those that failed."""
    rows = read_sweep(folder)
    write_parquet(folder / "sweep.parquet", sweep_frame(rows))
    console.print(sweep_table(rows))
    console.print(f"Sweep: {folder}", soft_wrap=True, highlight=False)
    if any(not row.error and not (row.folder / PAGES[0]).exists() for row in rows):
        console.print("Page of one of its runs: python -m locheads.report RUN_FOLDER (of all: report.pages=always)")
    return [str(row.folder) for row in rows if row.error]


def read_sweep(folder: Path) -> list[SweepRow]:
    """Every run in a sweep's folder, in the order of its job numbers."""
    runs = [path.parent for path in folder.glob("*/overrides.yaml")]
    return [_row(run) for run in sorted(runs, key=_job_number)]


def _job_number(run: Path) -> tuple[int, str]:
    """Runs whose folders the user named (hydra.sweep.subdir) come last, by name."""
    number = run.name.split("_")[0]
    return (int(number) if number.isdecimal() else sys.maxsize, run.name)


def _row(folder: Path) -> SweepRow:
    """A run whose files are damaged, or not what it wrote, is a failed one."""
    pairs: dict[str, str] = {}
    try:
        refuse_changed(folder, [OVERRIDES, "heads.json", *READ])
        pairs = _pairs(folder)
        return _finished(folder, pairs)
    except StoreError as error:
        return SweepRow(pairs, folder, None, str(error))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        return SweepRow(pairs, folder, None, f"a file of the run cannot be read ({error})")


def _pairs(folder: Path) -> dict[str, str]:
    overrides = yaml.safe_load((folder / OVERRIDES).read_text()) or []
    # A deletion such as ~tracker has no value.
    return {key: value for key, _, value in (override.lstrip("+").partition("=") for override in overrides)}


def _finished(folder: Path, pairs: dict[str, str]) -> SweepRow:
    status, before = StatusFile.read_if_there(folder), DoneBeforeFile.read_if_there(folder)
    provenance = ProvenanceFile.read_if_there(folder)
    finished = status is not None and status.state == "done"
    error = None if finished else (status and status.error) or "did not finish: see its run.log"
    metrics = None if error else MetricsRecord.read_if_there(folder)
    origin, digest = before.folder if before else None, provenance.digest if provenance else None
    audit = None if error else AuditFile.read_if_there(folder)
    return SweepRow(pairs, folder, metrics, error, origin, digest, audit)
