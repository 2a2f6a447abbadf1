"""Reads back what W&B wrote offline: its records, by its own message classes, from its transaction log.

The file is a LevelDB log: a header of 7 bytes, then blocks of 32 KiB of chunks with (crc32, length, type) in front,
where the types 1 to 4 are a whole record, its first, a middle and its last piece.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER, CHUNK = 32768, 7, 7


@dataclass
class Told:
    """All that one run told W&B."""

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    artifacts: dict[str, dict[str, Path]] = field(default_factory=dict)
    """Type -> name of a file in it -> where that file waits for its upload."""
    exit_code: int | None = None

    def logged(self) -> set[str]:
        return {key for point in self.history for key in point}


def told(folder: Path) -> Told:
    """Of the one run that lies in a run folder."""
    (path,) = folder.glob("wandb/*run-*/*.wandb")
    result = Told()
    for content in _records(path.read_bytes()):
        _add(result, Record.FromString(content))
    return result


def _add(result: Told, record: Any) -> None:
    match record.WhichOneof("record_type"):
        case "run":
            result.run = record.run
            result.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        case "config":
            result.config |= {_key(item): json.loads(item.value_json) for item in record.config.update}
        case "summary":
            result.summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
        case "history":
            result.history.append({_key(item): json.loads(item.value_json) for item in record.history.item})
        case "artifact":
            _add_artifact(result, record.artifact)
        case "request" if record.request.WhichOneof("request_type") == "log_artifact":
            _add_artifact(result, record.request.log_artifact.artifact)
        case "exit":
            result.exit_code = record.exit.exit_code


def _add_artifact(result: Told, artifact: Any) -> None:
    files = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    result.artifacts.setdefault(artifact.type, {}).update(files)


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _records(content: bytes) -> Iterator[bytes]:
    assert content[:4] == b":W&B"
    place, whole = HEADER, b""
    while place + CHUNK <= len(content):
        left = BLOCK - place % BLOCK
        if left < CHUNK:
            place += left
            continue
        crc, length, kind = struct.unpack("<IHB", content[place : place + CHUNK])
        data = content[place + CHUNK : place + CHUNK + length]
        assert crc == zlib.crc32(data, zlib.crc32(bytes([kind])))
        place += CHUNK + length
        whole += data
        if kind in (1, 4):
            yield whole
            whole = b""
