"""What was worked out of stored attention once, and is the same as long as that and what else it depends on are."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from locheads.errors import StoreError
from locheads.store.atomic import write_bytes
from locheads.store.derived import BLANK, KEY, read_derived, with_checksum
from locheads.store.digest import json_digest

log = logging.getLogger(__name__)

Arrays = Mapping[str, np.ndarray]


def kept(
    folder: Path,
    name: str,
    depends_on: Any,
    make: Callable[[], Arrays],
    enough: Callable[[Arrays], bool] = lambda _: True,
) -> Arrays:
    """The arrays of `make`, which is called where `folder` does not hold them yet, or damaged.

    Args:
        folder: where they are kept; where it cannot be written, they are not.
        name: of what they are.
        depends_on: everything that decides their values, as plain values: others are kept under another digest.
        make: works them out.
        enough: whether what is kept serves; else they are made again, and kept instead.
    """
    path = folder / f"{name}-{json_digest(depends_on)[:16]}.kept"
    found = read_derived(path, load)
    if found is not None and enough(found):
        return found
    made = make()
    try:
        arrays = {key: np.ascontiguousarray(array) for key, array in made.items()}
        write_bytes(path, with_checksum(save(arrays, {KEY: BLANK.decode()})))
    except StoreError as error:
        log.info("%s It is worked out again by the next run.", error)
    return made
