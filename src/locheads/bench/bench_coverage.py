"""How often the intervals hold the truth: simulated splits whose true figure is known, and the bootstrap's percentiles
as the control, which fail at extreme rates."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from rich.progress import track
from scipy.special import betaincinv, ndtr

from locheads.bench.meters import machine
from locheads.evaluation.intervals import difference_ends, sum_ratio, t_ends, wilson_ends
from locheads.fitted_table import Row, figures, fitted_table, label
from locheads.terminal import console

CONFIDENCE, IMAGES, REPEATS, RESAMPLES = 0.95, (30, 100, 300), 2000, 400
RATES = (0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98)
MOST = 12
"""Expressions of an image: 1 to MOST, all equally likely; or 1 in all images."""
SHARES = (0.0, 0.3, 0.6, 1.0)
"""Of an answer's latent variance, what its image decides: 1: all answers about an image agree."""
OF_TRUTH = 1_000_000
"""Draws behind a truth that has no formula."""

Uniform = Float[np.ndarray, "repeat image expression"]
"""What decides an answer; correlated within an image."""
Parts = tuple[np.ndarray, np.ndarray]
"""Numerators and denominators per expression."""


@dataclass(frozen=True)
class Measure:
    """A figure to simulate."""

    name: str
    answers: Callable[[Uniform, np.random.Generator], Parts]
    other: Callable[[Uniform, np.random.Generator], Parts] | None = None
    """A second run on the same samples: the figure is its difference to the first."""
    bounded: bool = True


def measures() -> list[Measure]:
    """All that the project reports with an interval; `pointing`, Pr@t and each slice are shares such as Acc."""
    found = [Measure(f"Acc, pointing, slices: {100 * rate:.0f} %", _hits(rate)) for rate in RATES]
    found += [Measure(f"random heads, mean of 10 draws: {100 * rate:.0f} %", _draws(rate)) for rate in (0.02, 0.5)]
    kinds = {"usual": (0.2, 5, 2), "mostly misses": (0.9, 2, 2), "nearly all 0": (0.98, 2, 2), "all alike": (0.0, 8, 2)}
    found += [Measure(f"mIoU, {kind}", _ious(*shape)) for kind, shape in kinds.items()]
    found += [Measure(f"cIoU, {kind}", _ciou(*shape)) for kind, shape in kinds.items()]
    for changed, gained in ((0.02, 1.0), (0.05, 0.8), (0.1, 0.5), (0.3, 0.7)):
        name = f"difference of Acc, {100 * changed:.0f} % change, {100 * gained:.0f} % of them for the better"
        found.append(Measure(name, *_changed(changed, gained)))
    for changed in (0.05, 1.0):
        name = f"{100 * changed:.0f} % of the IoUs change"
        found.append(Measure(f"difference of mIoU, {name}", *_shifted(changed, sized=False)))
        found.append(Measure(f"difference of cIoU, {name}", *_shifted(changed, sized=True)))
    return [*found, Measure("NSS", _nss, bounded=False)]


def benchmark(repeats: int = REPEATS, images: tuple[int, ...] = IMAGES, seed: int = 0) -> dict[str, Any]:
    """Coverage in percent of every measure by images, cluster sizes and correlation."""
    started = time.perf_counter()
    rows = []
    for measure in track(measures(), "measures", transient=True):
        known = truth(measure)
        rows += [row for n in images for row in simulate(measure, known, n, repeats, seed)]
    return {
        "benchmark": "coverage",
        "machine": machine(torch.device("cpu")),
        "nominal": 100 * CONFIDENCE,
        "repeats": repeats,
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 1),
        "rows": rows,
    }


def simulate(measure: Measure, known: float, images: int, repeats: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """One row per cluster size and correlation: how often our interval and the percentiles' hold the `known` truth."""
    for most, share in ((1, 0.0), *((MOST, share) for share in SHARES)):
        rng = np.random.default_rng([seed, images, most, round(10 * share)])
        sums = _sums(measure, rng, (repeats, images, most), share)
        ours, control = _ends(measure, sums), percentile_ends(sums, rng)
        yield {
            "measure": measure.name,
            "pictures": images,
            "expressions": "1" if most == 1 else f"1 to {most}",
            "share_of_image": share,
            "truth": known,
            **_result("", ours, known),
            **_result("bootstrap_", control, known),
        }


def percentile_ends(sums: list[np.ndarray], rng: np.random.Generator) -> Float[np.ndarray, "2 repeat"]:
    """The control: a percentile bootstrap over images, of a ratio or of the difference of two."""
    n = sums[0].shape[1]
    drawn = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(np.float64)
    ratios = [(top @ drawn.T) / (bottom @ drawn.T) for top, bottom in zip(sums[::2], sums[1::2], strict=True)]
    tail = (1 - CONFIDENCE) / 2
    return np.quantile(ratios[-1] - (ratios[0] if len(ratios) > 1 else 0), [tail, 1 - tail], axis=1)


def show(record: dict[str, Any]) -> None:
    """The worst coverage of every measure over cluster sizes and correlations, per number of images."""
    counts = sorted({row["pictures"] for row in record["rows"]})
    rows = []
    for name in dict.fromkeys(row["measure"] for row in record["rows"]):
        cells = []
        for n in counts:
            found = [row for row in record["rows"] if row["measure"] == name and row["pictures"] == n]
            ours, control = (min(row[key] for row in found) for key in ("coverage", "bootstrap_coverage"))
            cells.append(f"{ours:.1f} ({control:.1f})")
        rows.append(Row([name, *cells]))
    headings = [*label("measure"), *figures(*(f"{n} images" for n in counts))]
    title = f"Least coverage in percent of a {record['nominal']:.0f} % interval (in brackets: bootstrap)"
    console.print(fitted_table(title, headings, rows))
    print(f"{record['repeats']} repeats of each case, seed {record['seed']}, {record['seconds']:.0f} s.")


def _ends(measure: Measure, sums: list[np.ndarray]) -> Float[np.ndarray, "2 repeat"]:
    if measure.other is not None:
        return difference_ends((sums[0], sums[1]), (sums[2], sums[3]), CONFIDENCE)
    return (wilson_ends if measure.bounded else t_ends)(sums[0], sums[1], CONFIDENCE)


def _result(name: str, ends: np.ndarray, known: float) -> dict[str, float]:
    # Ends that are sums of rounded numbers may miss 0 or 1 by a last digit.
    covered = (ends[0] <= known + 1e-12) & (known - 1e-12 <= ends[1])
    return {f"{name}coverage": 100 * float(covered.mean()), f"{name}width": float((ends[1] - ends[0]).mean())}


def _sums(
    measure: Measure, rng: np.random.Generator, shape: tuple[int, int, int], share: float
) -> list[Float[np.ndarray, "repeat image"]]:
    """Numerators and denominators of each image; of both runs where there are two."""
    repeats, images, most = shape
    of_image, own = rng.standard_normal((repeats, images, 1)), rng.standard_normal(shape)
    latent = ndtr(np.sqrt(share) * of_image + np.sqrt(1 - share) * own)
    asked: Bool[np.ndarray, "repeat image expression"] = np.arange(most) < rng.integers(
        1, most + 1, (repeats, images, 1)
    )
    sizes = rng.bit_generator.state  # both runs are about the same objects
    parts = []
    for answers in filter(None, (measure.answers, measure.other)):
        rng.bit_generator.state = sizes
        parts += [np.sum(part * asked, axis=2) for part in answers(latent, rng)]
    return parts


def truth(measure: Measure) -> float:
    """The figure of a measure over all images that there might be."""
    rng = np.random.default_rng(7)
    latent = rng.random((1, OF_TRUTH, 1))
    state, found = rng.bit_generator.state, []
    for answers in filter(None, (measure.answers, measure.other)):
        rng.bit_generator.state = state
        top, bottom = answers(latent, rng)
        found.append(float(sum_ratio(np.ravel(top), np.ravel(bottom))))
    return found[-1] - (found[0] if len(found) > 1 else 0.0)


def _hits(rate: float) -> Callable[[Uniform, np.random.Generator], Parts]:
    return lambda u, rng: (u < rate, np.ones(u.shape))


def _draws(rate: float) -> Callable[[Uniform, np.random.Generator], Parts]:
    """Half of the sets of heads find what is easy, the others less or more of it."""
    rates = rate * np.repeat([0.5, 1.0, 1.5], [3, 4, 3])
    return lambda u, rng: (np.mean([u < each for each in rates], axis=0), np.ones(u.shape))


def _iou(u: np.ndarray, missed: float, a: float, b: float) -> np.ndarray:
    """A share of misses, else Beta(a, b)."""
    grid = np.linspace(0, 1, 2001)
    return np.where(u < missed, 0.0, np.interp((u - missed) / (1 - missed), grid, betaincinv(a, b, grid)))


def _ious(missed: float, a: float, b: float) -> Callable[[Uniform, np.random.Generator], Parts]:
    return lambda u, rng: (_iou(u, missed, a, b), np.ones(u.shape))


def _unions(u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shares of an image: 4 % in the median, a tenth above 16 %."""
    return np.minimum(np.exp(1.1 * rng.standard_normal(u.shape)) * 0.04, 1.0)


def _ciou(missed: float, a: float, b: float) -> Callable[[Uniform, np.random.Generator], Parts]:
    def answers(u: Uniform, rng: np.random.Generator) -> Parts:
        union = _unions(u, rng)
        return _iou(u, missed, a, b) ** np.where(union > 0.05, 0.7, 1.4) * union, union  # large objects are easier

    return answers


def _changed(changed: float, gained: float) -> tuple[Callable[..., Parts], Callable[..., Parts]]:
    """Two runs that differ in a share of 0/1 answers."""
    lost = changed * (1 - gained)
    return _hits(0.5), lambda u, rng: ((u >= lost) & (u < 0.5 + changed * gained), np.ones(u.shape))


def _shifted(changed: float, sized: bool) -> tuple[Callable[..., Parts], Callable[..., Parts]]:
    """Two runs, the second better or worse in a share of the samples, by 0.05 in the mean."""

    def run(second: bool) -> Callable[[Uniform, np.random.Generator], Parts]:
        def answers(u: Uniform, rng: np.random.Generator) -> Parts:
            union = _unions(u, rng) if sized else np.ones(u.shape)
            iou, shift = 0.2 + 0.6 * rng.random(u.shape), rng.normal(0.05, 0.15, u.shape)
            return np.clip(iou + second * np.where(u < changed, shift, 0.0), 0, 1) * union, union

        return answers

    return run(False), run(True)


def _nss(u: Uniform, rng: np.random.Generator) -> Parts:
    return -np.log(1 - u * (1 - 1e-9)) * 1.5 - 0.5, np.ones(u.shape)
