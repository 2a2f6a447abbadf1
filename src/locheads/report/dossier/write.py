"""A dossier as files: dossier.md, and dossier.html, which prints well; beside them the methods and the tables as LaTeX.
All come from the records of a run folder alone: the same records give the same bytes."""

from contextlib import suppress
from pathlib import Path

from locheads.errors import StoreError
from locheads.records.receipt_file import renew_pages
from locheads.report.dossier.latex import run_tables
from locheads.report.dossier.methods import latex, methods
from locheads.report.dossier.section import Section, Table
from locheads.report.dossier.sections import outcomes, sections, title
from locheads.report.explorer.page import page_template, write_page
from locheads.report.run_record import RunRecord, read_run
from locheads.text import markdown_text, printable

FOLDER = "dossier"
"""In the run folder."""
DOSSIER_PAGE = f"{FOLDER}/dossier.html"
SOURCE = "Every sentence comes from the records of the run folder; what these do not tell is said to be so."


def write_dossier(record: RunRecord, folder: Path | None = None) -> list[Path]:
    """Writes dossier.html, dossier.md and methods.tex into `folder`, by default `dossier` in the run folder, and
    returns their paths.

    Raises StoreError where a file cannot be written.
    """
    found = sections(record)
    files = {
        "dossier.html": to_html(record, found, beside=folder is None),
        "dossier.md": to_markdown(record, found),
        "methods.tex": latex(methods(record)),
    }
    folder = record.folder / FOLDER if folder is None else folder
    for name, text in files.items():
        write_page(folder / name, text)
    return [folder / name for name in files]


def dossier_of(folder: Path, target: Path | None = None) -> list[Path]:
    """As `write_dossier`, of a run folder, with tables.tex besides, whose paired differences take longer than all the
    rest; the checksums of the run's pages are renewed. Raises StoreError where it is no run folder, too."""
    record = read_run(folder)
    paths = write_dossier(record, target)
    paths.append(paths[0].with_name("tables.tex"))
    write_page(paths[-1], run_tables(record))
    if target is None:
        with suppress(StoreError):  # a damaged receipt, which the dossier names
            renew_pages(folder)
    return paths


def to_html(record: RunRecord, found: tuple[Section, ...], beside: bool = True) -> str:
    """The page; `beside`: it lies in the run folder, and links to the run's page."""
    return page_template("dossier/dossier.html.j2").render(
        title=printable(title(record)), sections=found, outcomes=outcomes(found), source=SOURCE, beside=beside,
        shown=printable,
    )  # fmt: skip


def to_markdown(record: RunRecord, found: tuple[Section, ...]) -> str:
    """The same, as GitHub and pandoc read it."""
    lines = [f"# {markdown_text(title(record))}", "", markdown_text(SOURCE)]
    for standing, pairs in outcomes(found).items():
        lines += ["", f"**{standing.value}**", ""]
        lines += [f"- {_linked(outcome.text, section)}" for outcome, section in pairs] or ["- Nothing."]
    return "\n".join([*lines, *(line for section in found for line in _section(section)), ""])


def _linked(text: str, section: Section) -> str:
    return f"{markdown_text(text)} ([{section.title.lower()}](#{section.anchor}))"


def _section(section: Section) -> list[str]:
    sentences = [line for sentence in section.sentences for line in ("", markdown_text(sentence))]
    sentences += [line for about, text in section.paragraphs for line in ("", f"**{about}.** {markdown_text(text)}")]
    tables = [line for table in section.tables for line in _table(table)]
    return ["", f"## {section.title}", *sentences, *tables]


def _table(table: Table) -> list[str]:
    rule = f"|{' --- |' * len(table.headings)}"
    return ["", f"{markdown_text(table.caption)}:", "", _row(table.headings), rule, *map(_row, table.rows)]


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(markdown_text, cells))} |"
