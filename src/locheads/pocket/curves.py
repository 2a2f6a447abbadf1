"""Draws curves.csv of a training as curves.png, beside it."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from locheads.pocket.language import KINDS, QUESTION


def plot_curves(folder: Path) -> None:
    """Losses left, shares of right answers right; a dotted line where a harder level begins."""
    curves = pd.read_csv(folder / "curves.csv")
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, shares = figure.subplots(1, 2)
    for name in ("word_loss", "loss"):
        losses.plot(curves["step"], curves[name], label=name.replace("_", " "))
    for name in ("first_word", *KINDS, QUESTION):
        shares.plot(curves["step"], curves[name], label=name.replace("_", " "))
    losses.set(xlabel="step", ylabel="loss", ylim=(0, 3))
    shares.set(xlabel="step", ylabel="share right on training scenes", ylim=(0, 1))
    for axes in (losses, shares):
        axes.legend()
    for step in curves["step"][curves["level"].diff() > 0]:
        for axes in (losses, shares):
            axes.axvline(step, color="0.7", linewidth=0.8, linestyle=":")
    figure.savefig(folder / "curves.png", dpi=110)
