"""Choose the columns of a table, once its header is known."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..errors import FileError
from .layout import Selection


class Chooser:
    """Chooses the columns to read once the header is known; `chosen` is then complete."""

    def __init__(self, name: str, selection: Selection, saved: Selection) -> None:
        self.name, self.selection, self.saved = name, selection, saved
        self.chosen = selection
        self.numeric: tuple[str, ...] = ()  # columns that must be numbers, and are never read as text

    def __call__(self, header: list[str], lists: Sequence[str] = ()) -> list[str]:
        """lists: the columns of lists, the first of which is by default the input."""
        if lists and not (self.selection.inputs or self.saved.inputs):
            self.selection = replace(self.selection, inputs=(lists[0],))
        self.chosen = resolve(self.name, header, self.selection, self.saved)
        if self.selection.every and self.chosen.time is None:
            raise FileError(f"{self.name}: --every needs --time, the column that orders the steps")
        chosen = self.chosen
        is_number = chosen.window is not None or chosen.task == "regress"
        as_text = {chosen.group, chosen.time, *(() if is_number else chosen.targets)}
        columns = (*chosen.inputs, *chosen.targets)
        self.numeric = tuple(column for column in columns if column not in as_text)
        return self.chosen.named_columns


def resolve(name: str, header: list[str], selection: Selection, saved: Selection) -> Selection:
    """Choose the columns to read: the selected ones, else those of the training table, else the defaults.

    The file may lack the target, group and time of the training table, but not its inputs. Raises FileError,
    which lists the file's columns.
    """

    def present(columns: Iterable[str | None]) -> tuple[str, ...]:
        return tuple(column for column in columns if column in header)

    group = selection.group or next(iter(present((saved.group, "sequence"))), None)
    time = selection.time or next(iter(present((saved.time,))), None)
    defaults = [column for column in header if column == "label" or column.startswith("target")]
    targets = selection.targets or present(saved.targets)
    if not saved.inputs:
        targets = targets or (("label",) if "label" in defaults else tuple(defaults))
    window = selection.window or saved.window
    # a forecast also uses past values of its target
    weight = selection.weight or next(iter(present((saved.weight,))), None)
    known, static = selection.known or saved.known, selection.static or saved.static
    others = {
        group,
        time,
        weight,
        *known,
        *static,
        *(set(defaults) - set(targets) if window else (*targets, *defaults)),
    }
    inputs = selection.inputs or saved.inputs or tuple(c for c in header if c and c not in others)
    for column in (*selection.named_columns, *inputs, *known, *static):
        if column not in header:
            trained = "" if column in selection.named_columns else "; the model was trained on that column"
            raise FileError(
                f"{name}: there is no column {column!r}; the columns are {', '.join(header)}: "
                f"choose with --input (and --target, --group, --time){trained}"
            )
    if not inputs:
        raise FileError(
            f"{name}, line 1: none of {', '.join(header)} is an input: select the inputs with --input"
        )
    chosen = selection.completed(saved)
    return replace(chosen, inputs=inputs, targets=targets, group=group, time=time, weight=weight)
