"""The old name of `python -m locheads.workers`, for one version."""

import sys

from locheads.workers.__main__ import main

if __name__ == "__main__":
    print("warning: python -m locheads.cluster is now called python -m locheads.workers: use that.", file=sys.stderr)
    sys.exit(main())
