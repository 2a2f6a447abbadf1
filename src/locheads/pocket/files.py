"""Two small helpers for files that must survive a crash."""

import json
import os
from pathlib import Path
from typing import Any


def sync(path: Path) -> None:
    """Brings a file's or folder's content to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON with sorted keys and syncs it."""
    path.write_text(json.dumps(content, sort_keys=True) + "\n")
    sync(path)
