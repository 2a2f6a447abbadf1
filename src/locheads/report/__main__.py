"""`python -m locheads.report RUN_FOLDER`: rebuilds the pages of a run from its records; `serve RUN_FOLDER` serves
the head explorer with everything that the run kept."""

import sys
from pathlib import Path

from locheads.errors import LocHeadsError, complain
from locheads.report.explorer.serve import main as serve
from locheads.report.html import write_report


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    if arguments[:1] == ["serve"]:
        return serve(arguments[1:])
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(
            "Usage: python -m locheads.report RUN_FOLDER, or: python -m locheads.report serve RUN_FOLDER",
            file=sys.stderr,
        )
        return 0 if arguments in (["-h"], ["--help"]) else 2
    try:
        print(write_report(Path(arguments[0])))
    except LocHeadsError as error:
        return complain(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
