"""The workflows that train the pack's own networks: a neural prior, a motion adapter, an exemplar model."""

from ._graph import Graph
from ._restoration_workflows import film_frames
from ._train_workflows import dataset, watched

PRIOR_NOTE = """## Train a neural prior

A **neural prior** guesses a whole clip from its first frame, in one step (FrameBridge-NP). It runs as it is, in a few
minutes on a CPU, and shows the way rather than a result: the film gives 15 clips of 32 x 32 pixels.

* Your own data: a folder of videos in *Video Dataset* (subfolders are classes), without `images`.
* *Samples*: each clip, and below it what the prior makes of its first frame. *Losses*: every step, and their mean.
* **Stop** whenever you like: queue again and it goes on exactly. Finished with the same inputs, it is found again.
* The file is in `models/aqueduct`; *Load Neural Prior* lists it after pressing R. For latents wire a VAE to both nodes.

Choose a film in *Load Video* (`python3 scripts/demo.py` fetches this one).
"""
ADAPTER_NOTE = """## Train a motion adapter

The **adapter** makes an image-to-video MODEL follow a motion (EMG, MOFA-Video). The MODEL is the small one that ships,
and stays as it is; the adapter starts as a copy of its encoder that changes nothing. A few minutes on a CPU.

* *Video Dataset* with **motion** on: it measures how every clip moves, there and back, and where that agrees.
* The loss is the MODEL's own and, with weight 0.1, that frames agree along the motion (*consistency*, *mask*).
* To train on from the adapter that ships: *Load Motion Adapter* into `adapter`.
* *Samples*: each clip, and below it what MODEL and adapter make of its first frame along its motion.

The film gives 7 clips: what it learns, it knows by heart. Choose a film in *Load Video* (`python3 scripts/demo.py`
fetches this one), or a folder of your own in *Video Dataset*.
"""
EXEMPLAR_NOTE = """## Train an exemplar model, in two stages

**EBDM**: a bridge from edges to pictures in the style of an exemplar. *Stage 1* learns to translate, told of the
exemplar by one token; *Stage 2* goes on from its MODEL and learns to look at the exemplar itself. 20 minutes on one
core of a CPU: of four scenes at 32 x 32 pixels it learns colours and shapes, and is left with noise.

* Your own pictures: a `folder`, one subfolder for each person or style, without `images`.
* To make the model that ships fit your pictures: *Load Bridge Model* (exemplar_scenes.safetensors) into `model` of
  *Stage 2*, and leave *Stage 1* out.
* *Samples*: control, exemplar, what is made of the two, and the picture the control is of.
* Files are in `models/aqueduct`; *Load Bridge Model* lists them after pressing R, *Apply Exemplar* takes them.
"""
FILM, SCENES = "carphone.mp4", ("scene 1", "scene 2", "scene 3", "scene 4")


def train_neural_prior(info: dict) -> Graph:
    g = Graph(info)
    g.note(PRIOR_NOTE, (40, -300), (760, 320))
    film = film_frames(g, FILM, 0, 120, (40, 32))
    data = dataset(g, film, (400, 60), width=32, height=32, frames=8)
    trained = g.add(
        "AqueductTrainNeuralPrior", (780, 60), dataset=data["dataset"], steps=400, batch=8, learning_rate=2e-3,
        sample_every=100, filename_prefix="my_neural_prior",
    )  # fmt: skip
    watched(g, trained, (1160, 60))
    return g


def train_motion_adapter(info: dict) -> Graph:
    g = Graph(info)
    g.note(ADAPTER_NOTE, (40, -320), (760, 340))
    film = film_frames(g, FILM, 0, 112, (80, 64))
    data = dataset(g, film, (400, 60), width=64, height=64, frames=16, motion=True)
    loader = g.add("AqueductLoadBridgeModel", (780, 60), file="animate_photos.safetensors")
    trained = g.add(
        "AqueductTrainMotionAdapter", (780, 300), model=loader["model"], dataset=data["dataset"], steps=150, batch=2,
        sample_every=50, filename_prefix="my_motion_adapter",
    )  # fmt: skip
    watched(g, trained, (1160, 60))
    return g


def train_exemplar(info: dict) -> Graph:
    g = Graph(info)
    g.note(EXEMPLAR_NOTE, (40, -300), (760, 320))
    batch = None
    for n, name in enumerate(SCENES):
        one = g.add("AqueductExampleImage", (40, 60 + 120 * n), title=f"Picture {n + 1}", name=name)
        batch = one if batch is None else g.add("ImageBatch", (40, 440 + 130 * n), image1=batch[0], image2=one[0])
    common = {"images": batch[0], "resolution": 32, "size": "small", "batch": 8, "sample_every": 200}
    first = g.add(
        "AqueductTrainExemplar", (400, 60), title="Stage 1", stage="1", steps=600,
        filename_prefix="my_exemplar_stage_1", **common,
    )  # fmt: skip
    second = g.add(
        "AqueductTrainExemplar", (780, 60), title="Stage 2", stage="2", model=first["model"], steps=400,
        filename_prefix="my_exemplar", **common,
    )  # fmt: skip
    watched(g, first, (1160, 60), ", stage 1")
    watched(g, second, (1540, 60), ", stage 2")
    return g


TRAININGS = (train_neural_prior, train_motion_adapter, train_exemplar)
