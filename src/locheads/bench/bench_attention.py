"""The attention pass, step by step, beside how it is done today: in one run, the steps taking turns."""

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from rich.progress import track
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from locheads.bench.meters import machine, matmul_rate, peak_extra_mib, seconds, spread
from locheads.bench.shapes import Shape, build, image, packed_flop
from locheads.models import capture
from locheads.models.adapters import PreparedInput, Sharing
from locheads.models.answer import answer_prepared
from locheads.models.attend import attend_prepared
from locheads.models.batching import Budget, collate, whole
from locheads.models.load import Lvlm
from locheads.pipeline.measured_cost import VAL_EXPRESSIONS, VAL_IMAGES
from locheads.types import Answer

TODAY = "today: eager, output_attentions, full depth, one by one"
HOOKED = "sdpa, hooks on q and k, early exit, one by one"
ROWS = "sdpa + rows of the query"
EXIT = "+ early exit"
PACKED = "+ packed: one pass per image"
BATCHED = "+ several images per pass"
DISCOVERY = "discovery: packed, all layers and heads"
BARE = "the same tokens without capture"
DISCOVERY_SPREAD = "discovery at 1.14 expressions per image"
DISCOVERY_BATCHED = "discovery, several images per pass"
ANSWER_TOKENS = 16
ANSWER_ALONE = f"answers of {ANSWER_TOKENS} tokens: generate, one by one"
ANSWER_PACKED = f"answers of {ANSWER_TOKENS} tokens: one packed cache per image"
CAPTURELESS = (BARE, ANSWER_ALONE, ANSWER_PACKED)

SPREAD = (2, 1, 1, 1, 1, 1, 1)
"""Expressions of each image: five times 1,000 random expressions of RefCOCO train lie on 0.87 as many images."""


@dataclass(frozen=True)
class Step:
    """One way to get the maps."""

    name: str
    run: Callable[[], list[np.ndarray]]
    """-> maps of the needed heads of the first image's expressions, [head, row, col] each; as many as it asks, and none
    where nothing is captured."""
    expressions: int
    """How many one call answers."""


class Bench:
    """A model of one shape, and the steps on it.

    On a CPU all of them run with glibc's own habits. `load_lvlm` changes those (`keep_freed_memory`), for good and for
    the whole process, so that today's way could not take turns with it: the engine is quicker than its steps here.
    """

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape, self.device = shape, device
        self.model = build(shape, device)
        self.images = [image(shape, seed) for seed in range(shape.images)]
        self.few = _first(self.images[0], shape.singles)
        self.spread = [_first(image(shape, seed), n) for seed, n in enumerate(SPREAD)]

    def steps(self) -> list[Step]:
        """In the order of the table."""
        shape, needed = self.shape, self.shape.needed_heads()
        few, all_ = shape.singles, shape.suffixes
        steps = [
            Step(TODAY, self.today, few),
            Step(HOOKED, self.hooked, few),
            Step(ROWS, lambda: self._engine([self.few], Sharing.plain, None), few),
            Step(EXIT, lambda: self._engine([self.few], Sharing.plain, needed), few),
            Step(PACKED, lambda: self._engine(self.images[:1], Sharing.packed, needed), all_),
            Step(DISCOVERY, lambda: self._engine(self.images[:1], Sharing.packed, None), all_),
            Step(BARE, self.bare, all_),
            Step(DISCOVERY_SPREAD, lambda: self._engine(self.spread, Sharing.packed, None), sum(SPREAD)),
        ]
        steps += [
            Step(ANSWER_ALONE, lambda: self._asked(self.few, Sharing.plain), few),
            Step(ANSWER_PACKED, lambda: self._asked(self.images[0], Sharing.packed), all_),
        ]
        if shape.images > 1:
            many = all_ * shape.images
            steps.insert(5, Step(BATCHED, lambda: self._engine(self.images, Sharing.packed, needed), many))
            steps.append(Step(DISCOVERY_BATCHED, lambda: self._engine(self.images, Sharing.packed, None), many))
        return steps

    @torch.inference_mode()
    def today(self) -> list[np.ndarray]:
        """As the released code does it: the whole attention of every layer is kept, and a row of it read."""
        self.model.set_attn_implementation("eager")
        found = []
        for suffix in self.few.suffixes:
            output = self.model(
                input_ids=torch.cat([self.few.prefix, suffix])[None].to(self.device),
                pixel_values=self._pixels(self.few),
                output_attentions=True,
            )
            rows = [output.attentions[h.layer][0, h.head, -1] for h in self.shape.needed_heads()]
            cells = torch.stack(rows)[:, self.few.image_tokens.to(self.device)]
            found.append(cells.float().cpu().numpy().reshape(-1, self.shape.grid, self.shape.grid))
        return found

    @torch.inference_mode()
    def hooked(self) -> list[np.ndarray]:
        """As a good engineer writes it today: sdpa, hooks that work out the query's row, an exit behind the last."""
        self.model.set_attn_implementation("sdpa")
        layers, found = self.model.model.language_model.layers, []
        for suffix in self.few.suffixes:
            rows: dict[int, torch.Tensor] = {}
            with ExitStack() as stack:
                for layer in {head.layer for head in self.heads}:
                    hook = _hook(rows, self.shape.deepest)
                    stack.callback(layers[layer].self_attn.register_forward_pre_hook(hook, with_kwargs=True).remove)
                stack.enter_context(suppress(_Deep))
                self.model.base_model(
                    input_ids=torch.cat([self.few.prefix, suffix])[None].to(self.device),
                    pixel_values=self._pixels(self.few), use_cache=False,
                )  # fmt: skip
            cells = torch.stack([rows[head.layer][head.head] for head in self.heads])
            cells = cells[:, self.few.image_tokens.to(self.device)]
            found.append(cells.cpu().numpy().reshape(-1, self.shape.grid, self.shape.grid))
        return found

    @torch.inference_mode()
    def bare(self) -> list[np.ndarray]:
        """What the packed pass through all layers costs where nothing is captured: sdpa under the same mask."""
        self.model.set_attn_implementation("sdpa")
        batch = collate(whole(self.images[0]), shared=True)
        assert batch.position_ids is not None
        self.model.base_model(
            input_ids=batch.input_ids.to(self.device), attention_mask=batch.mask.to(self.device),
            position_ids=batch.position_ids.to(self.device), pixel_values=self._pixels(self.images[0]),
            use_cache=False,
        )  # fmt: skip
        return []

    def _asked(self, image: PreparedInput, sharing: Sharing) -> list[np.ndarray]:
        self.answers(image, sharing)
        return []

    def answers(self, image: PreparedInput, sharing: Sharing) -> list[Answer | None]:
        """Of so many tokens each: none ends an answer."""
        capture.install(self.model)
        self.model.generation_config.eos_token_id = None
        words = SimpleNamespace(pad_token_id=0, decode=lambda ids, **_: " ".join(map(str, ids)))
        adapter: Any = SimpleNamespace(sharing=sharing, processor=SimpleNamespace(tokenizer=words))
        return answer_prepared(Lvlm(self.model, adapter, self.device), image, ANSWER_TOKENS, Budget(1, 1))

    def _engine(self, images: list[PreparedInput], sharing: Sharing, heads: Any) -> list[np.ndarray]:
        capture.install(self.model)
        adapter: Any = SimpleNamespace(sharing=sharing)
        lvlm = Lvlm(self.model, adapter, self.device)
        budget = Budget(1, 1) if sharing == Sharing.plain or len(images) == 1 else Budget(10**9)
        maps = [one.maps() for one in attend_prepared(lvlm, images, budget, heads)[0] if one is not None]
        if heads is None:
            return [one[[h.layer for h in needed], [h.head for h in needed]] for one in maps for needed in [self.heads]]
        return maps

    @property
    def heads(self) -> Any:
        """The heads that are compared."""
        return self.shape.needed_heads()

    def _pixels(self, prepared: PreparedInput) -> torch.Tensor:
        return prepared.tensors["pixel_values"].to(self.device, self.model.dtype)


class _Deep(Exception):
    """The deepest needed layer gave its row."""


def _hook(rows: dict[int, torch.Tensor], deepest: int) -> Callable[..., None]:
    """Of a layer's attention: puts the last token's row, [head, token], into `rows`."""

    def work_out(module: Any, _: Any, options: dict[str, Any]) -> None:
        hidden, places = options["hidden_states"], options["position_embeddings"]
        query, key = (
            part(hidden).unflatten(-1, (-1, module.head_dim)).transpose(1, 2) for part in (module.q_proj, module.k_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, *places)
        logits = query[:, :, -1:].float() @ key.float().transpose(-1, -2) * module.scaling
        rows[module.layer_idx] = logits.softmax(-1)[0, :, 0]
        if module.layer_idx == deepest:
            raise _Deep

    return work_out


def _first(image: PreparedInput, n: int) -> PreparedInput:
    """With its first n expressions."""
    return replace(image, suffixes=image.suffixes[:n], spans=image.spans[:n])


def benchmark(shape: Shape, device: torch.device, rounds: int) -> dict[str, Any]:
    """Everything that is measured, as plain values; times in milliseconds per expression."""
    where = machine(device)
    bench = Bench(shape, device)
    steps = bench.steps()
    # The first call of each warms it up, is compared with today's, and its memory measured.
    found: dict[str, list[np.ndarray]] = {}
    memory = {step.name: peak_extra_mib(_kept(step, found), device) for step in steps}
    times: dict[str, list[float]] = {step.name: [] for step in steps}
    cpu: dict[str, list[float]] = {step.name: [] for step in steps}
    rates = []
    tokens = (shape.prefix + shape.suffixes * shape.suffix_length) * shape.images
    for _ in track(range(rounds), "rounds", transient=True):
        for step in steps:
            before = time.process_time()
            times[step.name].append(1000 * seconds(step.run, device) / step.expressions)
            cpu[step.name].append(1000 * (time.process_time() - before) / step.expressions)
        rates.append(matmul_rate(tokens, shape.hidden, shape.intermediate, device, bench.model.dtype))
    rate = float(np.median(rates))
    return {
        "benchmark": "attention",
        "shape": asdict(shape),
        "machine": where,
        "rounds": rounds,
        "unit": "ms per expression",
        "steps": [_record(step, times, memory, found) | {"cpu": float(np.median(cpu[step.name]))} for step in steps],
        # Of each round, because a machine's clock drifts.
        "answers_times_faster": float(np.median(np.divide(times[ANSWER_ALONE], times[ANSWER_PACKED]))),
        "engine_over_bare": float(np.median(np.divide(times[DISCOVERY], times[BARE]))),
        "floor": _floor(shape, rate, times),
        **_extrapolated(shape, times, rate),
    }


def _kept(step: Step, found: dict[str, list[np.ndarray]]) -> Callable[[], None]:
    """Runs the step and keeps what it found."""

    def run() -> None:
        found[step.name] = step.run()

    return run


def _record(step: Step, times: dict[str, list[float]], memory: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    median = float(np.median(times[step.name]))
    today, own = found[TODAY], found[step.name]
    return {
        "name": step.name,
        "time": spread(times[step.name]),
        "times_faster": float(np.median(times[TODAY])) / median,
        "expressions_per_call": step.expressions,
        "peak_extra_mib": memory[step.name],
        "share_of_todays_memory": memory[step.name] / memory[TODAY] if memory[step.name] and memory[TODAY] else None,
        "largest_difference_to_today": max(
            (float(np.abs(one - other).max()) for one, other in zip(today, own, strict=False)), default=None
        ),
    }


def _floor(shape: Shape, rate: float, times: dict[str, list[float]]) -> dict[str, Any]:
    """What the packed form's arithmetic takes at the rate of this machine's own large matrix products."""
    floor = 1000 * packed_flop(shape) / rate / shape.suffixes
    best = min(float(np.median(times[name])) for name in (PACKED, BATCHED) if name in times)
    return {"ms_per_expression": floor, "matmul_flop_per_second": rate, "best_over_floor": best / floor}


def _extrapolated(shape: Shape, times: dict[str, list[float]], rate: float) -> dict[str, Any]:
    if shape.name != "llava_1_5_7b":
        return {}
    flop = packed_flop(shape) * VAL_EXPRESSIONS / shape.suffixes
    return {
        "extrapolated": {
            "what": f"RefCOCO val: {VAL_EXPRESSIONS} expressions on {VAL_IMAGES} images, forward passes only; "
            "extrapolated from the time per expression, not run",
            "seconds": {
                name: float(np.median(values)) * VAL_EXPRESSIONS / 1000
                for name, values in times.items()
                if name not in (ANSWER_ALONE, ANSWER_PACKED)
            },
            "floor_seconds": flop / rate,
        }
    }
