"""stage=steer in the terminal: what became of the answers under every treatment."""

from rich.console import RenderableType

from locheads.evaluation.steer_effect import Kind, Mode, SteerEffect
from locheads.fitted_table import Row, figures, fitted_table, label
from locheads.records.steer_file import SteerFile
from locheads.report.interval_words import level_of

TREATMENTS = {Mode.move: "elsewhere", Mode.hide: "not at the image"}


def steer_table(found: SteerFile) -> RenderableType:
    """Chosen heads and controls, for every mode and k."""
    headings = [
        *label("they look", "k", "heads"),
        *figures("dependence", "change", "become it (%)", "chosen lead by"),
    ]
    rows = [Row(_cells(effect), "bold" if effect.kind == Kind.chosen else None) for effect in found.effects]
    return fitted_table("When heads look elsewhere: does the answer change?", headings, rows, _caption(found))


def _cells(effect: SteerEffect) -> tuple[str, ...]:
    dependence = "" if effect.dependence is None else f"{effect.dependence:.2f}"
    lead = "" if effect.lead is None else str(effect.lead)
    numbers = (dependence, str(effect.change), f"{100 * effect.becomes:.0f}", lead)
    return TREATMENTS[effect.mode], str(effect.k), effect.kind.value, *numbers


def _caption(found: SteerFile) -> str:
    left_out = f"; {found.n_same_answer} left out, as all answers begin alike" if found.n_same_answer else ""
    return (
        f"{found.split}: {found.n_images} images, {found.n_expressions} expressions{left_out}. Change: of the log-odds "
        "of another object's answer against the own. Controls are other heads of the same layers. Brackets: "
        f"{level_of(found.confidence)} interval over images."
    )
