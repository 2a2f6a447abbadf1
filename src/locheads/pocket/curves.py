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
    curves.plot("step", ["word_loss", "loss"], ax=losses, ylim=(0, 3), ylabel="loss")
    shown = [name for name in ("first_word", *KINDS, QUESTION) if curves[name].notna().any()]
    if shown:  # nothing is answered in the first stage
        curves.plot("step", shown, ax=shares, ylim=(0, 1), ylabel="share right on training scenes")
    for step in curves["step"][curves["level"].diff() > 0]:
        for axes in (losses, shares):
            axes.axvline(step, color="0.7", linewidth=0.8, linestyle=":")
    figure.savefig(folder / "curves.png", dpi=110)
