"""`python -m locheads.report RUN_FOLDER`: rebuilds a run's pages from its records, draws its figures, or writes its
dossier."""

import argparse
import sys
from pathlib import Path

from locheads.errors import LocHeadsError, print_error
from locheads.report.dossier.write import dossier_of
from locheads.report.explorer.page import LIMIT
from locheads.report.figure_files import FigureKind, Scheme, write_figures
from locheads.report.html import write_report


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser("python -m locheads.report", description=__doc__.split(": ", 1)[1])
    parser.add_argument("folder", type=Path, help="run folder")
    parser.add_argument(
        "--megabytes", type=_megabytes, default=LIMIT / 1e6, help="of explorer.html, at most (default: %(default)g)"
    )
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="write the run's figures there instead")
    parser.add_argument("--dossier", type=Path, metavar="FOLDER", nargs="?", const=Path(),
                        help="write the dossier alone, there or into the run folder")  # fmt: skip
    parser.add_argument("--format", choices=list(FigureKind), default=FigureKind.svg, type=FigureKind,
                        help="of the figures (default: %(default)s)")  # fmt: skip
    parser.add_argument("--scheme", choices=list(Scheme), default=Scheme.light, type=Scheme,
                        help="colours of the figures (default: %(default)s)")  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        if options.figures:
            print(*write_figures(options.folder, options.figures, options.format, options.scheme), sep="\n")
            return 0
        if options.dossier is not None:
            print(*dossier_of(options.folder, None if options.dossier == Path() else options.dossier), sep="\n")
            return 0
        print(write_report(options.folder, int(1e6 * options.megabytes)))
    except LocHeadsError as error:
        return print_error(error)
    return 0


def _megabytes(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError("it must be a number of megabytes above 0, at most 1,000,000")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
