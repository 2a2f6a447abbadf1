"""Entry point of a checkout: `python run.py --help`. An installed package has the same as the command `locheads`."""

from locheads.pipeline.cli import main

if __name__ == "__main__":
    main()
