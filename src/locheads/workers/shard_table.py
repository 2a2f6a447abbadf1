"""stage=status: how far the shards of a pass are, as a table and as values for workers.json."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from locheads.fitted_table import Cell, Row, figures, fitted_table, label, words
from locheads.records.command_files import PassStatus, ShardStatus, WorkersFile
from locheads.store.attention_store import AttentionStore
from locheads.terminal import PlainConsole
from locheads.text import duration
from locheads.workers.config import ShardConfig
from locheads.workers.shard_progress import ShardProgress, ShardState, read_progress, summary
from locheads.workers.split_work import Pass, TokenCost, split

_COLOURS = {"running": "cyan", "done": "green", "failed": "bold red", "silent": "bold red", "stopped": "yellow"}


@dataclass(frozen=True)
class ShardRow:
    """One shard: what its worker says, and what the store says."""

    shard: int
    progress: ShardProgress
    images: int
    stored: int | None
    """Images with everything that is needed; None where that is not known yet."""
    tokens_left: float
    """Expected, of what is not stored."""

    @property
    def state(self) -> ShardState:
        """As its worker says; but everything may be stored by a run without shards, or by a worker killed since."""
        state = self.progress.state
        return (
            ShardState.done if self.tokens_left == 0 and state in (ShardState.not_begun, ShardState.silent) else state
        )

    def seconds_left(self) -> float | None:
        """None where nobody works on it, or nothing was timed yet."""
        rate = self.progress.tokens_per_second()
        return self.tokens_left / rate if rate and self.state == ShardState.running else None


def shard_rows(store: AttentionStore, work: Pass, config: ShardConfig, cost: TokenCost) -> list[ShardRow]:
    """Per shard where it stands."""
    rows = []
    files, parts = work.progress_files(store, config.count), split(work.groups, config.count, cost)
    for shard, (path, part) in enumerate(zip(files, parts, strict=True)):
        progress = read_progress(path)
        missing = work.missing(store, part, progress)
        stored = None if missing and work.need is None else len(part) - len(missing)
        rows.append(ShardRow(shard, progress, len(part), stored, sum(map(cost.of, missing))))
    return rows


def show_status(
    store: AttentionStore, passes: Sequence[Pass], config: ShardConfig, cost: TokenCost, console: PlainConsole
) -> WorkersFile:
    """Prints a table per pass. -> the same as workers.json holds it."""
    found = {}
    for work in passes:
        rows = shard_rows(store, work, config, cost)
        console.print(_table(work, rows))
        for row in rows:
            if text := row.progress.content.get("error"):
                console.print(f"Shard {row.shard}: {text} (log: {row.progress.content.get('log')})")
        console.print(headline(work, rows))
        found[work.name] = PassStatus(shards=tuple(map(_status, rows)), seconds_left=seconds_left(rows))
    return WorkersFile(passes=found)


def seconds_left(rows: Sequence[ShardRow]) -> float | None:
    """Until the last of the running workers is done; None where nobody works on what is missing, or it is unknown."""
    if all(row.tokens_left == 0 for row in rows):
        return 0.0
    return max((left for row in rows if (left := row.seconds_left()) is not None), default=None)


def headline(work: Pass, rows: Sequence[ShardRow]) -> str:
    """One line: states, images, time left."""
    left, stored = seconds_left(rows), sum(row.stored or 0 for row in rows)
    idle = sum(row.tokens_left > 0 and row.state != ShardState.running for row in rows)
    ends = [f"about {duration(left)} left"] if left else ["complete"] if left == 0 else []
    ends += [f"nobody is working on {idle} of the shards"] if idle else []
    parts = (summary([row.state for row in rows]), f"{stored} of {len(work.groups)} images", *ends)
    return f"{work.name}: {'; '.join(parts)}."


def _table(work: Pass, rows: Sequence[ShardRow]) -> RenderableType:
    shown = []
    for row in rows:
        rate, left, worker = row.progress.tokens_per_second(), row.seconds_left(), row.progress.content.get("worker")
        cells: list[Cell] = [
            str(row.shard),
            Text(row.state, style=_COLOURS.get(row.state, "dim")),
            f"{'?' if row.stored is None else row.stored}/{row.images}",
            "" if rate is None else f"{rate:,.0f}",
            "" if left is None else duration(left),
            f"{duration(row.progress.age_s)} ago" if worker else "",
            ", ".join(str(each) for each in worker.values() if each) if worker else "",
        ]
        shown.append(Row(cells))
    headings = [
        *label("shard"),
        *figures("state", "images", "tokens/s", "left", "heard of"),
        *words("machine, process, job"),
    ]
    return fitted_table(f"{work.name}: {len(rows)} shards", headings, shown)


def _status(row: ShardRow) -> ShardStatus:
    return ShardStatus(
        shard=row.shard,
        state=row.state.value,
        images=row.images,
        stored=row.stored,
        tokens_per_second=row.progress.tokens_per_second(),
        seconds_left=row.seconds_left(),
        age_s=round(row.progress.age_s, 3),
        record=row.progress.content,
    )
