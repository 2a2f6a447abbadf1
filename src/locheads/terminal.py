"""The look of the terminal: a console that shows text as it is, and tables."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from locheads.text import printable


class PlainConsole(Console):
    """Interprets nothing: neither [markup] nor :emoji: nor control characters, any of which paths, ids and expressions
    may hold.

    Colours are given as `Text` or `style`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, markup=False, emoji=False, highlight=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's; a str is one line, whatever line breaks a path in it holds."""
        super().print(*(printable(each) if isinstance(each, str) else each for each in objects), **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Through here goes every str that stands in a table."""
        return super().render_str(printable(text, keep="\n"), **options)


def new_table(title: str | None = None, caption: str | None = None) -> Table:
    return Table(
        title=title,
        caption=caption,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title_justify="left",
        caption_justify="left",
    )
