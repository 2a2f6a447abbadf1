"""`python -m locheads.models.convert SRC DST`: an original checkpoint becomes a folder for `model.id`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from locheads.errors import LocHeadsError, print_error


def main(arguments: list[str] | None = None) -> int:
    """Converts, says what came out. -> the exit code."""
    options = _parser().parse_args(arguments)
    # Imported late: --help answers before torch and transformers load.
    from transformers.utils import logging as transformers_log

    from locheads.models.convert.conversion import FORMATS, MANIFEST, convert

    transformers_log.set_verbosity_error()
    if options.list:
        for one in FORMATS.values():
            print(f"{one.name:<12} {one.describes}")
        return 0
    if options.destination is None:
        return print_error("SRC and DST are needed: python -m locheads.models.convert SRC DST", 1)
    chosen = vars(options)
    folders = {name: chosen[name] for name in ("vision_tower", "vision_tower_aux", "base", "conversation")}
    try:
        manifest = convert(options.source, options.destination, options.format, **folders)
    except LocHeadsError as error:
        return print_error(error)
    _report(manifest, options.destination, MANIFEST)
    return 0


def _report(manifest: dict[str, Any], destination: Path, name: str) -> None:
    for note in manifest["notes"]:
        print(note)
    for part, found in manifest["sources"].items():
        unused = found["tensors"] - found["mapped"]
        print(f"{part}: {found['mapped']} tensors converted, {unused} deliberately unused")
    size = manifest["result"]["bytes_of_weights"] / 1e9
    print(f"{destination}: {size:.2f} GB of weights, format {manifest['format']}; hashes and key map in {name}.")
    print(f"Use it with: python run.py model.id={destination} ...")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m locheads.models.convert", description=__doc__)
    parser.add_argument("source", metavar="SRC", type=Path, nargs="?", help="folder of the original checkpoint")
    parser.add_argument("destination", metavar="DST", type=Path, nargs="?", help="folder to make; must not exist")
    parser.add_argument("--list", action="store_true", help="the formats, and no conversion")
    parser.add_argument("--format", metavar="NAME", help="the source's format (default: from its config.json)")
    parser.add_argument("--vision-tower", metavar="DIR", type=Path, help="vision tower that SRC names and lacks")
    parser.add_argument("--vision-tower-aux", metavar="DIR", type=Path, help="second vision tower (Mini-Gemini)")
    parser.add_argument("--base", metavar="DIR", type=Path, help="language model that delta weights are added to")
    parser.add_argument("--conversation", metavar="NAME", help="chat template (default: the format's own)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
