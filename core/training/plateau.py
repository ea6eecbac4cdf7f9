"""The learning rate goes down when the loss has stopped going down."""

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau


class Plateau:
    """PyTorch's `ReduceLROnPlateau`, shown the mean of every ``window`` losses; ``scale`` multiplies the peak rate.

    A single loss of a bridge or a diffusion says little: it depends on the times that were drawn. So the losses are
    averaged over windows of steps that do not overlap, and after more than ``patience`` windows in a row whose mean is
    not below the best one by the relative ``threshold``, ``scale`` is multiplied by ``factor``, down to ``lowest``.

    ``factor`` is EBDM's (section 9.2, which says nothing of the others; those are PyTorch's).
    Raises ValueError for a window or a factor that makes no sense.
    """

    def __init__(
        self, factor: float = 0.2, patience: int = 10, window: int = 100, threshold: float = 1e-4, lowest: float = 0.0
    ):
        if window < 1:
            raise ValueError(f"the window is a number of steps, at least 1; got {window}")
        if not 0 < factor < 1:
            raise ValueError(f"the factor lies between 0 and 1, got {factor}; EBDM's is 0.2")
        self.window = window
        # The scheduler wants an optimiser to write its rate into. This one holds the scale, and the loop, which also
        # warms up, stays the only one that sets the rate of training.
        self._scale = torch.optim.SGD([torch.zeros(())], lr=1.0)
        self._scheduler = ReduceLROnPlateau(
            self._scale, factor=factor, patience=patience, threshold=threshold, min_lr=lowest
        )

    @property
    def scale(self) -> float:
        return self._scale.param_groups[0]["lr"]

    def watch(self, losses: list[float]) -> None:
        """All losses so far; once after every step."""
        if len(losses) % self.window == 0:
            self._scheduler.step(sum(losses[-self.window :]) / self.window)

    def state_dict(self) -> dict:
        """Of the scheduler; the losses of an unfinished window are with the run."""
        return {"scale": self.scale, "scheduler": self._scheduler.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self._scale.param_groups[0]["lr"] = state["scale"]
        self._scheduler.load_state_dict(state["scheduler"])
