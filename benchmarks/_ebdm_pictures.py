"""What the sheets of `ebdm.py` show."""

from pathlib import Path

from _ebdm_figures import sheet
from _ebdm_models import OURS, ROWS, SHIPPED, Models
from _ebdm_quality import answered
from _ebdm_scenes import SEED, crops, edge_scenes, grid, mask_scenes

CONTROLS, EXEMPLARS = 4, 5
SHOWN = 2  # questions of each kind on the sheet of all models
SHORT = {
    "baseline bridge, no exemplar": "no exemplar", "+ pooled token": "pooled token",
    "+ self-supervised token": "learned token", OURS: "ours", "conditional diffusion, control and token": "diffusion",
}  # fmt: skip


def grid_sheet(models: Models, path: Path) -> None:
    """Rows: controls, edges and masks in turn. Columns: exemplars, on top. Every picture from the same noise."""
    if models.path(SHIPPED) is None:
        return
    questions = grid(CONTROLS, EXEMPLARS)
    translate = models.translator(OURS)
    made = translate(questions.control, questions.exemplar, [0] * len(questions))
    top = [None, *(questions.exemplar[:EXEMPLARS] / 2 + 0.5)]
    rows = [
        [control / 2 + 0.5, *pictures]
        for control, pictures in zip(questions.control[::EXEMPLARS], made.split(EXEMPLARS), strict=True)
    ]
    sheet([top, *rows], ["control", *[f"exemplar {n + 1}" for n in range(EXEMPLARS)]], path)


def ablation_sheet(models: Models, path: Path) -> None:
    """Some questions of each set, and what every model answers."""
    names = list(models.rows())
    rows = []
    for questions in (make(SHOWN, seed=SEED + 4) for make in (edge_scenes, mask_scenes, crops)):
        given = [(x / 2 + 0.5).unbind() for x in (questions.control, questions.exemplar)]
        made = [answered(models, name, questions, ROWS[name].steps).unbind() for name in names]
        rows += zip(*given, *made, (questions.photo / 2 + 0.5).unbind(), strict=True)
    sheet(rows, ["control", "exemplar", *(SHORT[name] for name in names), "truth"], path)
