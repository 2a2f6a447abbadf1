"""stage=status: how far the workers of a pass are, in a table and as workers.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from locheads.pipeline.worker_shards import Dealer, Pass, summary
from locheads.sharding.lease import Record, State
from locheads.store.atomic import write_json
from locheads.terminal import console
from locheads.types import ImageGroup

_COLOURS = {"running": "cyan", "done": "green", "failed": "bold red", "died": "bold red", "stopped": "yellow"}


@dataclass(frozen=True)
class Row:
    """One shard: what its worker says, and what the store says."""

    shard: int
    record: Record
    images: int
    stored: int
    """Images with everything that is needed; -1 where that is not known yet."""
    tokens_left: float
    """Expected, of what is not stored."""

    @property
    def state(self) -> State:
        """As its worker says; a shard that nobody took is done where a pass without shards stored all of it."""
        free = self.record.state == State.free
        return State.done if free and self.tokens_left == 0 else self.record.state

    def rate(self) -> float | None:
        """Tokens per second of the newest worker."""
        seconds = self.record.content.get("seconds")
        return self.record.content["tokens_done"] / seconds if seconds else None


def show_status(dealer: Dealer, passes: Sequence[Pass], folder: Path) -> None:
    """Prints a table per pass, and writes workers.json."""
    content = {}
    for work in passes:
        rows = rows_of(dealer, work)
        content[work.name] = {"shards": [_plain(row) for row in rows], "seconds_left": seconds_left(rows)}
        console.print(table(work, rows))
        for row in rows:
            if text := row.record.content.get("error"):
                console.print(f"Shard {row.shard}: {text} (log: {row.record.content.get('log')})")
        console.print(headline(work, rows))
    write_json(folder / "workers.json", content)


def rows_of(dealer: Dealer, work: Pass) -> list[Row]:
    """Per shard where it stands."""
    shards, records = dealer.shards(work), dealer.records(work)
    return [_row(dealer, work, i, shards[i], record) for i, record in enumerate(records)]


def seconds_left(rows: Sequence[Row]) -> float | None:
    """Until the last shard is done, if the running workers go on at their rate and take the others; None: unknown."""
    if all(row.tokens_left == 0 for row in rows):
        return 0.0
    running = [row for row in rows if row.record.state == State.running]
    rates = [rate for row in running if (rate := row.rate())]
    if not rates:
        return None
    mean = sum(rates) / len(rates)
    slowest = max(row.tokens_left / (row.rate() or mean) for row in running)
    return max(slowest, sum(row.tokens_left for row in rows) / (mean * len(running)))


def headline(work: Pass, rows: Sequence[Row]) -> str:
    """One line: states, images, time left."""
    left = seconds_left(rows)
    time = "nobody is working on the rest" if left is None else f"about {_duration(left)} left" if left else "complete"
    stored = sum(max(row.stored, 0) for row in rows)
    return f"{work.name}: {summary([row.state for row in rows])}; {stored} of {len(work.groups)} images; {time}."


def table(work: Pass, rows: Sequence[Row]) -> Table:
    """A row per shard."""
    result = Table(title=f"{work.name}: {len(rows)} shards", title_justify="left")
    for column in ("shard", "state", "images", "tokens/s", "left", "memory", "heard of", "worker"):
        result.add_column(column, justify="left" if column in ("state", "worker") else "right", no_wrap=True)
    for row in rows:
        record, rate = row.record, row.rate()
        known = record.state != State.free
        memory = record.content.get("memory_mib")
        result.add_row(
            str(row.shard),
            Text(row.state, style=_COLOURS.get(row.state, "dim")),
            f"{'?' if row.stored < 0 else row.stored}/{row.images}",
            f"{rate:,.0f}" if rate else "",
            _duration(row.tokens_left / rate) if rate and record.state == State.running else "",
            f"{memory:,} MiB" if memory else "",
            f"{_duration(record.age_s)} ago" if known else "",
            record.owner() if known else "",
        )
    return result


def _row(dealer: Dealer, work: Pass, shard: int, part: list[ImageGroup], record: Record) -> Row:
    if work.need is None:
        done = record.state == State.done
        left = [] if done else part
        return Row(shard, record, len(part), len(part) if done else -1, sum(map(dealer.cost.of, left)))
    missing = dealer.store.missing(part, work.need)
    # Samples that failed are missing for good.
    n_missing = sum(len(group.samples) for group in missing)
    if record.state == State.done and n_missing <= record.content.get("failed", 0):
        missing = []
    return Row(shard, record, len(part), len(part) - len(missing), sum(map(dealer.cost.of, missing)))


def _plain(row: Row) -> dict[str, Any]:
    return {
        "shard": row.shard,
        "state": row.state,
        "pictures": row.images,
        "stored": row.stored if row.stored >= 0 else None,
        "tokens_per_second": row.rate(),
        "age_s": round(row.record.age_s, 3),
        "record": row.record.content,
    }


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
