"""`python metered_run.py METERS.json CHECKPOINT|- SETTING=VALUE ...`: what run.py does with these settings, metered.

A program of its own that imports nothing beside it, so that it meters the package of any checkout on PYTHONPATH. With a
checkpoint of `real_size` the model is free: in place of its forward pass stand rows made beforehand, whose making is
taken off all clocks; what the attention function and all after it do with them is not.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FIRST_PLACE = 4
"""The id of the first word that names a place, see `real_size.SPECIAL`."""


class Meters:
    """Seconds and memory of each stage; of a sweep's jobs together."""

    def __init__(self) -> None:
        self.free = {"wall": 0.0, "main": 0.0, "cpu": 0.0}
        """What the free model took, which is nobody's."""
        self.stages: dict[str, dict[str, float]] = {}
        self.base_mib: float | None = None

    def now(self) -> dict[str, float]:
        """Clocks: wall, CPU of the thread that drives the model, and of all threads and finished processes."""
        own, times = time.process_time(), os.times()
        clocks = {"wall": time.perf_counter(), "main": time.thread_time(), "cpu": own + sum(times[2:4])}
        return {name: seconds - self.free[name] for name, seconds in clocks.items()}

    @contextmanager
    def off(self) -> Iterator[None]:
        """While open, nothing counts; for one thread."""
        wall, cpu = time.perf_counter(), time.thread_time()
        yield
        self.free["wall"] += time.perf_counter() - wall
        spent = time.thread_time() - cpu
        self.free["main"], self.free["cpu"] = self.free["main"] + spent, self.free["cpu"] + spent

    def around(self, stage: Callable[..., Any]) -> Callable[..., Any]:
        """`Status.stage`, metered."""

        @contextmanager
        def metered(status: Any, name: str) -> Iterator[None]:
            self.base_mib = resident_mib("VmRSS") if self.base_mib is None else self.base_mib
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before = self.now()
            with stage(status, name):
                yield
            peak = resident_mib("VmHWM") - self.base_mib
            self._add(str(name), {clock: seconds - before[clock] for clock, seconds in self.now().items()}, peak)

        return metered

    def _add(self, name: str, seconds: dict[str, float], peak: float) -> None:
        known = self.stages.setdefault(name, {"wall": 0.0, "main": 0.0, "cpu": 0.0, "peak_mib": 0.0})
        self.stages[name] = {clock: known[clock] + spent for clock, spent in seconds.items()} | {
            "peak_mib": max(known["peak_mib"], peak)
        }

    def record(self) -> dict[str, Any]:
        """As plain values."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        return {"stages": self.stages, "main": self.now()["main"], "free": self.free, "largest_child_mib": children}


def resident_mib(name: str) -> float:
    """VmRSS or VmHWM of /proc/self/status: the process's resident memory, or its peak."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) / 1024


def free_the_model(checkpoint: Path, meters: Meters) -> None:
    """From now on a LLaVA's forward pass is nothing but its layers' calls of the attention function, each with one
    token, and the rows that this records are those of the file."""
    import numpy as np
    import torch
    from transformers import LlavaModel
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from locheads.models import capture

    with meters.off():
        table = torch.from_numpy(np.load(checkpoint / "rows.npy"))
    ids: Any = None

    def rows(query: Any, key: Any, mask: Any, scaling: Any, recorder: Any, *rest: Any) -> Any:
        with meters.off():
            words = torch.where(ids >= FIRST_PLACE, torch.arange(ids.shape[1]), 0).cummax(1).values
            places = ids.gather(1, words.gather(1, recorder.queries)) - FIRST_PLACE
            return torch.stack([table[recorder.layer][:, some] for some in places])

    def forward(model: Any, input_ids: Any, **others: Any) -> None:
        nonlocal ids
        ids, text = input_ids, model.config.get_text_config()
        token = torch.zeros(len(ids), text.num_attention_heads, 1, 2)
        attention = ALL_ATTENTION_FUNCTIONS[capture.NAME]
        for layer in model.language_model.layers:
            attention(layer.self_attn, token, token, token, None, scaling=1.0)

    capture.query_rows = rows  # type: ignore[assignment]
    LlavaModel.forward = forward


def main(report: str, checkpoint: str, *overrides: str) -> None:
    """One run, and its meters in a file."""
    meters = Meters()
    sys.path.pop(0)  # the folder of this file, whose modules are none of the run's
    if checkpoint != "-":
        free_the_model(Path(checkpoint), meters)
    from locheads.pipeline import cli
    from locheads.pipeline.run_life import Status

    Status.stage = meters.around(Status.stage)  # type: ignore[method-assign]
    sys.argv = ["run.py", *overrides]
    cli.main()
    Path(report).write_text(json.dumps(meters.record()))


if __name__ == "__main__":
    main(*sys.argv[1:])
