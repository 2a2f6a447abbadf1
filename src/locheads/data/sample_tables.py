"""Samples that take long to read, kept as a table once they were read."""

from collections.abc import Callable
from pathlib import Path

from locheads.data.refer_files import read_samples, write_samples
from locheads.data.tally import Tally
from locheads.types import ImageGroup


def kept_samples(
    table: Path, images: Path, tally: Tally | None, read: Callable[[Tally], list[ImageGroup]]
) -> list[ImageGroup]:
    """The groups of the table (its name has the digest of what they are read from), or else what `read` gives.

    A tally that counts reads the original files, because the table holds no bad record.
    """
    if tally is not None and tally.counting:
        return read(tally)
    groups = read_samples(table, images)
    if groups is None:
        groups = read(Tally())
        write_samples(table, groups, images)
    return groups
