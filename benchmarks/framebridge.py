#!/usr/bin/env python3
"""FrameBridge's claims on held-out moving digits: bridge or diffusion, replicated or neural prior, with or without SAF.

    python3 scripts/train_small.py NAME ...      # makes runs/*.safetensors; see --list
    python3 benchmarks/framebridge.py --runs runs

Writes `results/framebridge.json`, `.md` and `.png` beside this file. Every model sees the same clips.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]
from _pack import load_pack

load_pack()

import torch
from _digits import generate, load_model, measure
from _report import figure, table
from _results import previous

from aqueduct.core.checkpoints import read_config
from aqueduct.core.metrics.video_classifier import VideoClassifier, classification_loss
from aqueduct.core.networks.neural_prior import make_prior
from aqueduct.core.training.digits import MovingDigits, load_glyphs
from aqueduct.core.training.loop import LoopSettings, train

# row -> (run, solvers swept over the number of evaluations)
ROWS = {
    "FrameBridge (replicated prior)": ("framebridge_digits", ("sde", "ode", "dbim-2", "dbim-3")),
    "FrameBridge-NP": ("framebridge_np_digits", ("sde", "ode", "dbim-2", "dbim-3")),
    "I2V diffusion, same size": ("diffusion_digits", ("ancestral", "ddim")),
    "Fine-tuned with SAF": ("saf_digits", ("sde",)),
    "Fine-tuned without SAF": ("no_saf_digits", ("sde",)),
    "FrameBridge, trained on (shipped)": ("framebridge_long_digits", ("sde", "ode")),
    "FrameBridge-NP, trained on (shipped)": ("framebridge_np_long_digits", ("sde", "ode")),
}
EVALUATIONS = (2, 5, 10, 20, 50)
HEADLINE = 20


def trained_classifier(folder: Path, steps: int = 500) -> VideoClassifier:
    """The feature network of the Frechet distance: trained once on the training digits, kept in ``folder``."""
    glyphs, labels = load_glyphs(held_out=False)
    world = MovingDigits(glyphs)
    torch.manual_seed(0)
    network = VideoClassifier()

    def loss(generator):
        clips = world.sample(64, generator)
        return classification_loss(network, clips.video, clips.direction, labels[clips.digit])

    settings = LoopSettings(steps=steps, learning_rate=3e-3, warmup=50)
    checkpoint = folder / "video_classifier.resume.pt"
    train(network.parameters(), loss, settings, torch.Generator().manual_seed(1), checkpoint)
    return network.eval().requires_grad_(False)


def classifier_accuracy(network: VideoClassifier, clips, labels: torch.Tensor) -> dict[str, float]:
    direction, digit = network(clips.video)
    right = {"direction": direction.argmax(1) == clips.direction, "digit": digit.argmax(1) == labels[clips.digit]}
    return {name: round(values.float().mean().item(), 4) for name, values in right.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs", help="folder of trained runs")
    parser.add_argument("--clips", type=int, default=256, help="held-out clips of the headline table")
    parser.add_argument("--sweep-clips", type=int, default=96, help="held-out clips of the sweep over evaluations")
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="measure the rows of these runs and keep the others' numbers")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    glyphs, labels = load_glyphs(held_out=True)
    world = MovingDigits(glyphs)
    clips = world.sample(options.clips, torch.Generator().manual_seed(options.seed))
    few = world.sample(options.sweep_clips, torch.Generator().manual_seed(options.seed + 1))
    classifier = trained_classifier(options.runs)
    settings = {
        "command": "python3 benchmarks/framebridge.py",
        "torch": torch.__version__, "machine": f"{platform.machine()}, CPU",
        "held_out_scans": len(glyphs), "clips": options.clips, "sweep_clips": options.sweep_clips,
        "seed": options.seed, "headline_evaluations": HEADLINE,
        "classifier_accuracy_on_truth": classifier_accuracy(classifier, clips, labels),
    }  # fmt: skip
    measured = previous(HERE / "results" / "framebridge.json", settings)
    result = measured or settings | {"headline": {}, "sweep": {}, "training": {}}

    def judge(video, of):
        return measure(video, of, world, labels, classifier)

    still = clips.video[:, :, :1].expand_as(clips.video)
    again = world.sample(options.clips, torch.Generator().manual_seed(options.seed + 2))
    result["headline"]["Truth"] = judge(clips.video, clips)
    result["fvd_floor"] = measure(again.video, clips, world, labels, classifier)["fvd"]
    result["headline"]["Still image"] = judge(still, clips)
    for row, (run, solvers) in ROWS.items():
        if options.only and run not in options.only:
            continue
        model = load_model(options.runs, run)
        if model.prior is not None:
            guess = make_prior(model.prior, clips.video[:, :, 0], clips.direction, world.frames)
            result["headline"]["Neural prior alone"] = judge(guess, clips)
        started = time.monotonic()
        result["headline"][row] = judge(generate(model, clips, solvers[0], HEADLINE, options.seed), clips)
        result["headline"][row]["seconds"] = round(time.monotonic() - started, 1)
        result["training"][row] = read_config(options.runs / f"{run}.safetensors")["training"]
        print(row, result["headline"][row], flush=True)
        for solver in solvers:
            result["sweep"][f"{row}, {solver}"] = {
                steps: judge(generate(model, few, solver, steps, options.seed), few) for steps in EVALUATIONS
            }
            print(row, solver, "done", flush=True)
        write(result)


def write(result: dict) -> None:
    """JSON, table and plot, rows in the order of ROWS."""
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    order = ["Truth", "Still image", "Neural prior alone", *ROWS]
    result["headline"] = {row: result["headline"][row] for row in order if row in result["headline"]}
    result["sweep"] = {
        key: result["sweep"][key]
        for key in (f"{row}, {solver}" for row, (_, solvers) in ROWS.items() for solver in solvers)
        if key in result["sweep"]
    }
    (folder / "framebridge.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / "framebridge.md").write_text(table(result))
    figure(result, folder / "framebridge.png")


if __name__ == "__main__":
    main()
