"""Entry point: `python run.py --help`."""

from pathlib import Path

from locheads.pipeline.cli import run

if __name__ == "__main__":
    run(Path(__file__).parent / "conf")
