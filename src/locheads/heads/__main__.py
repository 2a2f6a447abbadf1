"""`python -m locheads.heads list | show NAME | compare A B | page [FILE] | import FILE TO`: known localization heads.

A set is a published name, a heads.json, or a folder with one.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from math import nan
from pathlib import Path

from rich.console import RenderableType

from locheads.discovery.headset import HeadSet, published, read_headset
from locheads.errors import LocHeadsError, print_error
from locheads.evaluation.metric_table import ABSENT, percent
from locheads.fitted_table import Row, figures, fitted_table, label, words
from locheads.heads.foreign_sets import FORMS, read_foreign
from locheads.heads.set_comparison import compare_sets, how_found
from locheads.report.heads_page import write_heads_page
from locheads.store.atomic import write_json
from locheads.terminal import console
from locheads.types import HeadIndex

MANY = 50
"""Heads of known rank that are listed; where there are more, the set's own alone."""


def main(arguments: list[str] | None = None) -> int:
    """-> the exit code."""
    options = _parser().parse_args(arguments)
    try:
        for part in options.command(options):
            console.print(part)
    except LocHeadsError as error:
        return print_error(error)
    return 0


def _list(_: argparse.Namespace) -> Iterator[RenderableType]:
    sets = [read_headset(name) for name in published()]
    rows = [Row([found.name, _names(found.heads), how_found(found)["row"], found.source]) for found in sets]
    headings = [*label("set"), *words("heads", "row", "source")]
    caption = "Layers and heads count from 0. heads.set=SET takes one."
    yield fitted_table(f"{len(rows)} head sets", headings, rows, caption)


def _show(options: argparse.Namespace) -> Iterator[RenderableType]:
    found = read_headset(options.set)
    facts = [Row([name, value]) for name, value in how_found(found).items()]
    notes = "\n".join(found.how.notes) if found.how else ""
    yield fitted_table(found.name, [*label(""), *words("how it was found")], facts, notes)
    heads = dict.fromkeys([*found.heads, *(found.ranks if len(found.ranks) < MANY else ())])
    rows = [Row([str(head), str(found.ranks[head]), _share(found, head)]) for head in heads]
    yield fitted_table("Its heads", [*label("head"), *figures("rank", "frequency (%)")], rows)


def _names(heads: Iterable[HeadIndex]) -> str:
    return " ".join(map(str, heads))


def _share(found: HeadSet, head: HeadIndex) -> str:
    return percent(found.frequency.get(head, nan))


def _compare(options: argparse.Namespace) -> Iterator[RenderableType]:
    a, b = read_headset(options.a), read_headset(options.b)
    found = compare_sets(a, b)
    rows = [Row([str(head), *(ABSENT if rank is None else str(rank) for rank in ranks)])
            for head, ranks in found.ranks.items()]  # fmt: skip
    agreement = "nothing to order" if found.agreement is None else f"{found.agreement:+.2f}"
    first = ", ".join(f"{n} of {size}" for size, n in enumerate(found.first, start=1))
    caption = (
        f"Heads of both: {_names(found.shared) or 'none'}. Shared among the first: {first}. Weighted tau of the ranks: "
        f"{agreement} (1: the same order, -1: the reverse; heads that a set does not rank tie behind its last). "
        f"{ABSENT}: no rank is told."
    )
    title = f"a: {a.name}\nb: {b.name}"
    yield fitted_table(title, [*label("head"), *figures("rank in a", "rank in b")], rows, caption)
    differs = [Row([name, *both]) for name, both in found.differs.items()]
    yield fitted_table("What differs, or is not known, in how they were found", [*label(""), *words("a", "b")], differs)


def _page(options: argparse.Namespace) -> Iterator[RenderableType]:
    sets = [read_headset(name) for name in published()]
    facts = [how_found(found) for found in sets]
    yield str(write_heads_page(options.file, list(zip(sets, facts, strict=True))))


def _import(options: argparse.Namespace) -> Iterator[RenderableType]:
    shape, model = options.shape, options.model
    if options.like:
        like = read_headset(options.like)
        shape, model = shape or (like.layers, like.heads_per_layer), model or like.model
    source = options.source or f"imported from {options.file.name}, not found by us"
    write_json(options.to, read_foreign(options.file, options.k, source, model, shape))
    yield f"{options.to}: {_names(read_headset(options.to).heads)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m locheads.heads", description="Localization heads that are known.")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("list", help="the published sets").set_defaults(command=_list)
    show = commands.add_parser("show", help="one set, and how it was found")
    show.add_argument("set")
    show.set_defaults(command=_show)
    compare = commands.add_parser("compare", help="two sets: overlap, agreement of ranks, what differs")
    compare.add_argument("a")
    compare.add_argument("b")
    compare.set_defaults(command=_compare)
    page = commands.add_parser("page", help="a page with a picture of each published set")
    page.add_argument("file", type=Path, nargs="?", default=Path("heads.html"))
    page.set_defaults(command=_page)
    read = commands.add_parser("import", help=f"a heads.json from {FORMS}")
    read.add_argument("file", type=Path)
    read.add_argument("to", type=Path, help="the heads.json to write")
    read.add_argument("--k", type=_size, default=3, help="heads to take of a file of scores (default: %(default)s)")
    read.add_argument("--like", help="a set of the same model")
    read.add_argument("--model", help="hub id of the model in which they were found")
    read.add_argument("--shape", type=_shape, help="its layers and heads per layer, such as 32x32")
    read.add_argument("--source", help="who found them, in words")
    read.set_defaults(command=_import)
    return parser


def _size(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("it must be a number from 1 on")
    return int(text)


def _shape(text: str) -> tuple[int, int]:
    layers, x, heads = text.partition("x")
    if not x:
        raise argparse.ArgumentTypeError("it must be layers x heads, such as 32x32")
    return _size(layers), _size(heads)


if __name__ == "__main__":
    sys.exit(main())
