"""ComfyUI's progress bar and stop button, as the `report(done, total)` that core calls between pieces of work."""

from collections.abc import Callable

import comfy.model_management as mm
import comfy.utils


def reporter() -> Callable[[int, int], None]:
    """``report(done, total)``: moves the bar of the running node; raises ComfyUI's interrupt when the user stopped."""
    bar = None

    def report(done: int, total: int) -> None:
        nonlocal bar
        mm.throw_exception_if_processing_interrupted()
        if bar is None:
            bar = comfy.utils.ProgressBar(total)
        bar.update_absolute(done, total)

    return report
