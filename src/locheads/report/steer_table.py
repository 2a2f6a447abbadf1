"""stage=steer in the terminal: what became of the answers under every treatment."""

from rich.table import Table

from locheads.evaluation.steer_effect import Kind, Mode, SteerEffect
from locheads.records.steer_file import SteerFile
from locheads.report.tables import add_numbers
from locheads.terminal import new_table

TREATMENTS = {Mode.move: "look at another object", Mode.hide: "do not see the image"}


def steer_table(found: SteerFile) -> Table:
    """Chosen heads and controls, for every mode and k."""
    table = new_table(
        "When heads look elsewhere: change of log p(other object's answer) - log p(own answer)", _on(found)
    )
    table.add_column("", no_wrap=True)
    table.add_column("heads", no_wrap=True)
    add_numbers(table, "k", "dependence", "change", "become the other's (%)", "lead of the chosen")
    for effect in found.effects:
        table.add_row(*_cells(effect), style="bold" if effect.kind == Kind.chosen else None)
    return table


def _cells(effect: SteerEffect) -> tuple[str, ...]:
    dependence = "" if effect.dependence is None else f"{effect.dependence:.2f}"
    lead = "" if effect.lead is None else str(effect.lead)
    numbers = (str(effect.k), dependence, str(effect.change), f"{100 * effect.becomes:.0f}", lead)
    return TREATMENTS[effect.mode], effect.kind.value, *numbers


def _on(found: SteerFile) -> str:
    return (
        f"{found.split}: {found.n_images} images, {found.n_expressions} expressions; {found.n_same_answer} left out, as "
        "the answers about all other objects begin alike. Controls are other heads of the same layers. Brackets: "
        f"{100 * found.confidence:.0f} % interval over images."
    )
