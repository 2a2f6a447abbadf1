"""The chart of how many samples are enough."""

from matplotlib.figure import Figure

from locheads.errors import StoreError
from locheads.records.heads_file import HeadsFile
from locheads.report.run_record import RunRecord
from locheads.report.theme import FONT, LIGHT, Theme, label_axes, new_charts


def support_curve(record: RunRecord, theme: Theme = LIGHT) -> Figure:
    """In how many resamples of the images the same heads come first, by the number of samples (on a log scale).

    Raises StoreError where heads.json does not tell it.
    """
    heads = record.need(HeadsFile)
    if (found := heads.support) is None:
        raise StoreError(f"{record.folder}: heads.json does not tell how far its heads are final.")
    figure, (axes,) = new_charts(theme)
    sizes, shares = [n for n, _ in found.curve], [100 * share for _, share in found.curve]
    axes.plot(sizes, shares, "o-", color=theme.data, linewidth=2, markersize=5)
    axes.axhline(100 * found.confidence, color=theme.muted, linewidth=1.2, linestyle="--")
    if found.enough is not None:
        axes.plot([found.enough], [shares[sizes.index(found.enough)]], "o", color=theme.accent, markersize=9)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes], rotation=45, fontsize=FONT - 2)
    axes.minorticks_off()
    axes.set_ylim(0, 103)
    words = "samples", f"resamples with the same {heads.k} heads (%)", "Are the heads final?"
    label_axes(axes, theme, *words, grid="y")
    return figure
