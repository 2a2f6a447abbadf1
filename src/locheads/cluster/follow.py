"""How the jobs of a submission are, and the error of every one that failed."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from locheads.cluster.queue import states
from locheads.errors import StoreError
from locheads.records.provenance_file import StatusFile
from locheads.store.derived import parse_record
from locheads.terminal import PlainConsole


@dataclass(frozen=True)
class Task:
    """One process of a job: its run folder's status.json, and its log."""

    name: str
    state: str
    error: str | None
    folder: Path


def follow(folder: Path, console: PlainConsole) -> int:
    """Prints a table. -> 1 where a task failed, else 0. Raises StoreError for a folder that is no submission."""
    try:
        jobs = parse_record((folder / "chain.json").read_bytes())["jobs"]
    except OSError as error:
        raise StoreError(f"{folder} is no submission's folder: it has no chain.json.") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StoreError(f"{folder / 'chain.json'} is damaged ({error}): look the jobs up with squeue.") from error
    queue = states([job["id"] for job in jobs])
    table = Table(title=f"Jobs of {folder}", title_justify="left")
    for column in ("id", "job", "in the queue", "tasks by their own word"):
        table.add_column(column, overflow="fold")
    failed = []
    for job in jobs:
        tasks = tasks_of(job)
        table.add_row(job["id"], job["name"], _counts(queue[job["id"]]) or "gone", _counts([t.state for t in tasks]))
        failed += [task for task in tasks if task.state == "failed"]
    console.print(table)
    for task in failed:
        text = f"{task.name}: {task.error} (log: {task.folder / 'run.log'})"
        console.print(text, soft_wrap=True)
    return 1 if failed else 0


def tasks_of(job: dict[str, Any]) -> list[Task]:
    """Those that have begun. Later stages share the run's folder, so each tells of its own stage only."""
    folder = Path(job["folder"])
    folders = sorted(path.parent for path in folder.glob("*/status.json")) if job["array"] else [folder]
    return [task for each in folders if (task := _task(job, each)) is not None]


def _task(job: dict[str, Any], folder: Path) -> Task | None:
    try:
        status = StatusFile.read(folder)
    except StoreError:
        return None
    stage = job["name"].rpartition("/")[2]
    if not job["array"] and stage != _asked(folder):
        return None
    name = f"{job['name']} {folder.name}" if job["array"] else job["name"]
    return Task(name, status.state, status.error, folder)


def _asked(folder: Path) -> str | None:
    """Which stage the folder's newest run was to reach."""
    overrides = folder / "overrides.yaml"
    lines = overrides.read_text(errors="replace").splitlines() if overrides.exists() else []
    return next((line.removeprefix("- stage=") for line in lines if line.startswith("- stage=")), None)


def _counts(words: list[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items())
