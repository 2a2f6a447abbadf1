"""Screens of ScreenSpot in the publishers' layout."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import yaml

from locheads.data.config import BoxFormat, DatasetConfig
from locheads.data.screenspot import ScreenSpotDataSet

CONF = Path(__file__).parents[3] / "conf" / "dataset"


def write_header(path: Path, width: int, height: int) -> Path:
    """A PNG that ends after its header: as large a screen as one wants, for nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", fields) + _chunk(b"IDAT", b"") + _chunk(b"IEND", b""))
    return path


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_records(folder: Path, files: dict[str, list[dict[str, Any]]]) -> None:
    for name, records in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(records))


def screenspot(folder: Path, name: str = "screenspot_v2", **changes: Any) -> ScreenSpotDataSet:
    """The reader of dataset=NAME, its files in `folder`."""
    declared = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    images = folder / declared["images"].rpartition("/")[2]
    settings = {"refs": declared["refs"], "box_format": BoxFormat(declared["box_format"])} | changes
    return ScreenSpotDataSet(DatasetConfig(folder=str(folder), images=str(images), **settings), folder / "cache")
