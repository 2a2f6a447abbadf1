"""stage=steer in the terminal: what became of the answers under every treatment."""

from rich.table import Table

from locheads.evaluation.steer_effect import Kind, Mode, SteerEffect
from locheads.records.steer_file import SteerFile
from locheads.report.tables import add_numbers
from locheads.terminal import new_table

TREATMENTS = {Mode.move: "elsewhere", Mode.hide: "not at the image"}


def steer_table(found: SteerFile) -> Table:
    """Chosen heads and controls, for every mode and k."""
    table = new_table("When heads look elsewhere: does the answer change?", _caption(found))
    table.add_column("they look", no_wrap=True)
    table.add_column("heads", no_wrap=True)
    add_numbers(table, "k", "dependence", "change", "become it (%)", "chosen lead by")
    for effect in found.effects:
        table.add_row(*_cells(effect), style="bold" if effect.kind == Kind.chosen else None)
    return table


def _cells(effect: SteerEffect) -> tuple[str, ...]:
    dependence = "" if effect.dependence is None else f"{effect.dependence:.2f}"
    lead = "" if effect.lead is None else str(effect.lead)
    numbers = (str(effect.k), dependence, str(effect.change), f"{100 * effect.becomes:.0f}", lead)
    return TREATMENTS[effect.mode], effect.kind.value, *numbers


def _caption(found: SteerFile) -> str:
    left_out = f"; {found.n_same_answer} left out, as all answers begin alike" if found.n_same_answer else ""
    return (
        f"{found.split}: {found.n_images} images, {found.n_expressions} expressions{left_out}. Change: of the log-odds "
        "of another object's answer against the own. Controls are other heads of the same layers. Brackets: "
        f"{100 * found.confidence:.0f} % interval over images."
    )
