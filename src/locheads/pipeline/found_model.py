"""What model.adapter=probe found out about the model lies in the attention store, for the record of every run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from locheads.store.derived import read_derived_json, write_derived_json

FOUND = "probe.json"


def keep_found(store: Path, found: Mapping[str, Any]) -> None:
    """Writes what an adapter found out, where it found anything."""
    if found:
        write_derived_json(store / FOUND, dict(found))


def found_record(store: Path) -> dict[str, Any]:
    """For provenance.json's "model"."""
    found = read_derived_json(store / FOUND) if (store / FOUND).is_file() else None
    return {} if found is None else {"probe": found}
