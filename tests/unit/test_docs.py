"""The links of the documentation lead to files and headings that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "outputs/README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("experiments/**/*.md")]
LINK = re.compile(r"\]\(([^()\s]+)\)")


def prose(page: Path) -> str:
    """The page without its code blocks, in which # begins a comment."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings."""
    headings = re.findall(r"^#+ +(.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """The relative links of the page that lead nowhere."""
    links = [link.partition("#") for link in LINK.findall(prose(page)) if not re.match(r"\w+:", link)]
    targets = [(page.parent / path if path else page, anchor) for path, _, anchor in links]
    return [f"{to}#{at}" for to, at in targets if not to.exists() or (at and at not in anchors(to))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# It's here\n[a](page.md#its-here) [b](#gone) [c](gone.md) [d](https://example.org)\n")
    assert broken(page) == [f"{page}#gone", f"{tmp_path / 'gone.md'}#"]
