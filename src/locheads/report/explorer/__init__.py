"""The head explorer: any head, any sample, every step from map to box, in the browser."""

from locheads.report.explorer.page import EXPLORER_PAGE, write_explorer_page

__all__ = ["EXPLORER_PAGE", "write_explorer_page"]
