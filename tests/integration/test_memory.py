"""The attention pass holds a few images at a time, however many there are."""

import subprocess
import sys
from pathlib import Path

import pytest

FILLS_A_STORE = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace
import torch
from PIL import Image
from locheads.config import Config, PathsConfig
from locheads.models.engine import EngineConfig
from locheads.models.adapters import PreparedInput, Sharing
from locheads.models.attend import QueryRows
from locheads.geometry import Preprocess, square_geometry
from locheads.models import load
from locheads.pipeline import attention_pass as attention
from locheads.types import ImageGroup, Sample

folder, n = Path(sys.argv[1]), int(sys.argv[2])
LAYERS, HEADS, GRID, PER_IMAGE = 3, 8, 16, 20
Image.new("RGB", (32, 32)).save(folder / "a.png")

class Adapter:
    sharing = Sharing.packed
    def found(self):
        return {}
    def prepare(self, image, expressions, prompt):
        words = tuple(torch.zeros(3, dtype=torch.long) for _ in expressions)
        geometry = square_geometry(32, 32, 32, GRID, Preprocess.pad)
        pixels = {"pixel_values": torch.zeros(1, 3, 32, 32)}
        return PreparedInput(torch.zeros(260, dtype=torch.long), words, ((2, 3),) * len(words),
                             torch.arange(GRID ** 2), pixels, geometry)

text = SimpleNamespace(sliding_window=None)
model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda decoder: text))
load.load_lvlm = lambda *_: SimpleNamespace(adapter=Adapter(), device=torch.device("cpu"), model=model)
attention.attend_groups = lambda lvlm, batch, budget, heads: [
    [QueryRows([torch.rand(1, HEADS, GRID**2) for _ in range(LAYERS)], (GRID, GRID), None) for _ in group.samples]
    for group, _ in batch]

samples = [Sample(str(i), "r", "a cup", (0, 0, 1, 1), {}, "cup") for i in range(n)]
groups = [ImageGroup(str(i), folder / "a.png", 32, 32, tuple(samples[i : i + PER_IMAGE]))
          for i in range(0, n, PER_IMAGE)]
config = Config(engine=EngineConfig(device="cpu", threads=1, shard_images=8), paths=PathsConfig(cache=str(folder)))
store = attention.AttentionStore(folder, {"n": n})
assert attention.fill(store, groups, config) == []
assert len(list(store.read(groups[-1:]))) == 1 and store.missing(groups) == []
for _ in store.read(groups):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_the_peak_of_10000_samples_is_that_of_100(tmp_path: Path) -> None:
    peaks = []
    for n in (100, 10_000):
        (tmp_path / str(n)).mkdir()
        command = [sys.executable, "-c", FILLS_A_STORE, str(tmp_path / str(n)), str(n)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(result.stdout.split()[-1]))
    # All maps at once would be 240 MB more.
    assert peaks[1] < 1.1 * peaks[0]
