"""How far a training is, told about once a second."""

import time
from typing import Final

from models.training.curve import Curve
from models.training.steps.plan import Plan
from models.workbench import Standing, Workbench

_SECONDS: Final = 1.0


class Progress:
    """Tells a bench the loss and the last validation metric."""

    def __init__(self, bench: Workbench, plan: Plan) -> None:
        self._bench, self._plan = bench, plan
        self._told = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last report is a second ago."""
        return time.monotonic() - self._told >= _SECONDS

    def report(self, step: int, loss: float | None, curve: Curve) -> None:
        """Tell that `step` steps are done."""
        self._told = time.monotonic()
        said = [] if loss is None else [f"loss {loss:.2f}"]
        measured = [point.metrics for point in curve.points if point.metrics]
        if measured:
            name = "macro_f1" if "macro_f1" in measured[-1] else "score"
            said += [f"{name.replace('_f', '-F')} {measured[-1].get(name, 0.0):.2f}"]
        self._bench.report(Standing(step, self._plan.total, ", ".join(said)))
