"""What a table looks like in a terminal."""

import io

from rich.console import RenderableType

from locheads.terminal import PlainConsole


def printed(table: RenderableType, width: int = 100) -> str:
    """As text, without colours."""
    console = PlainConsole(file=(file := io.StringIO()), width=width, color_system=None)
    console.print(table)
    return file.getvalue()
