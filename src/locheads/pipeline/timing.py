"""How long the LVLM ran and what memory it took: kept beside what it found, and apart from every result, which must not
differ between two runs of the same configuration."""

import resource
import sys
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locheads.records.provenance_file import TimingFile
from locheads.store.derived import read_derived_json, write_derived_json
from locheads.store.provenance import hardware

if TYPE_CHECKING:
    import torch

PASS = ".pass.json"


class Stopwatch:
    """Started when the model is loaded; says what one pass over some expressions cost."""

    def __init__(self, device: "torch.device") -> None:
        self._device, self._start = device, time.perf_counter()
        if device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(device)

    def stop(self, folder: Path, expressions: int, **facts: Any) -> None:
        """Writes the pass into `folder`. `facts`: what else tells it from other passes there."""
        if not expressions:
            return
        seconds = time.perf_counter() - self._start
        content = {**facts, **memory_used(self._device), "expressions": expressions, "seconds": round(seconds, 3)}
        write_derived_json(folder / f"{uuid.uuid4().hex}{PASS}", content)


def write_timing(folder: Path, passes: Path) -> None:
    """timing.json: the passes that made the maps or answers that this run reads, those of the same kind added up.

    They may be other runs' passes: what the store holds is not computed again. A damaged note of a pass is left out,
    with a warning: nothing else tells what the pass took.
    """
    notes = [read_derived_json(path, then="left out of timing.json") for path in sorted(passes.glob(f"*{PASS}"))]
    found = _summed(note for note in notes if note is not None)
    if found:
        TimingFile.parse({"passes": found}).write(folder)


def _summed(passes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Seconds and expressions added, memory the highest. The kind of most expressions first."""
    kinds: dict[str, dict[str, Any]] = {}
    for one in passes:
        numbers = {key: one[key] for key in ("expressions", "seconds", "peak_bytes")}
        kind = {key: value for key, value in one.items() if key not in numbers}
        before = kinds.setdefault(repr(sorted(kind.items())), kind | dict.fromkeys(numbers, 0))
        before["expressions"] += numbers["expressions"]
        before["seconds"] = round(before["seconds"] + numbers["seconds"], 3)
        before["peak_bytes"] = max(before["peak_bytes"], numbers["peak_bytes"])
    return sorted(kinds.values(), key=lambda kind: -kind["expressions"])


def memory_used(device: "torch.device") -> dict[str, Any]:
    """On a GPU what torch held at most, on a CPU the whole process since its start."""
    import torch  # only here: who reads a full store needs none

    if device.type == "cuda":
        name, peak = torch.cuda.get_device_name(device), torch.cuda.max_memory_allocated(device)
        return {"device": name, "memory_of": "gpu", "peak_bytes": int(peak)}
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"device": f"{hardware()['processor']}, {torch.get_num_threads()} threads", "memory_of": "process",
            "peak_bytes": int(peak)}  # fmt: skip
