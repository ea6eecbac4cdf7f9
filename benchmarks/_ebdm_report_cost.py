"""The tables of `ebdm.py` on parameters and FLOPs, beside the paper's."""

from _ebdm_models import PAPER_STEPS

COUNTED = (
    "Two operations for each multiplication and its addition, of convolutions and matrix products, attention's among "
    "them (`torch.utils.flop_counter` on the meta device); norms, activations, softmax and resampling are not counted."
)


def small_cost(result: dict) -> list[str]:
    rows = []
    for name, row in result.get("cost", {}).items():
        once, step = row["once"] / 1e9, row["step"] / 1e9
        counted = (once, step, once + step, once + PAPER_STEPS * step, PAPER_STEPS * (once + step))
        rows.append([name, f"{row['parameters'] / 1e6:.2f}", *(f"{value:.3g}" for value in counted), row["trained"]])
    lines = ["## FLOPs of these models", ""] if rows else []
    runs = result.get("exemplar network", {}).get("runs")
    if rows:
        titles = ["", "parameters, M", "exemplar side, G", "one step, G", "1 step, G", f"{PAPER_STEPS} steps, G",
                  f"{PAPER_STEPS} steps, exemplar side at each, G", "trained"]  # fmt: skip
        about = f"{COUNTED} All bridges have the same layers; what a row does not use counts among its parameters."
        lines += [about, "", *table(titles, rows), ""]
    if runs is not None:
        sides = runs["seconds of as many exemplar sides"]
        lines += [
            f"Counted while one picture was made in {runs['steps']} steps: runs of the exemplar network "
            f"**{runs['exemplar network']}**, of the denoiser {runs['denoiser']}, in {runs['seconds']:.2f} s. As many "
            f"runs of the exemplar side as there are steps take {sides:.2f} s.",
            "",
        ]
    return lines


def sizes(result: dict) -> list[str]:
    rows = result.get("paper sizes", {})
    if "VQ-f4 encoder" not in rows:
        return []
    p = {name: row["parameters"] / 1e6 for name, row in rows.items()}
    denoiser = p["denoiser"] + p["VQ-f4 encoder"] + p["VQ-f4 decoder"]
    network = p["exemplar network"] + p["VQ-f4 encoder"]
    compared = [
        ("denoiser with autoencoder", 437.81, denoiser),
        ("denoiser, trained", 382.49, p["denoiser"]),
        ("exemplar network with the autoencoder's encoder", 404.82, network),
        ("exemplar network, trained", 382.48, p["exemplar network"]),
        ("global encoder (DINOv2 ViT-B/14)", 86.58, p["DINOv2 ViT-B/14"]),
        ("in all", 929.21, denoiser + network + p["DINOv2 ViT-B/14"]),
        ("trained in all", 764.97, p["denoiser"] + p["exemplar network"]),
        ("Table 6, SD-based: U-Net, ControlNet, CLIP ViT-B/32", 1308.7,
         p["SD1.5 U-Net"] + p["ControlNet"] + p["CLIP ViT-B/32"]),
    ]  # fmt: skip
    cells = [[name, f"{paper:.2f}", f"{own:.2f}", f"{own / paper - 1:+.1%}"] for name, paper, own in compared]
    about = (
        "The default configuration of `ExemplarUNet` (EBDM-f4, latents of 64 x 64 x 3) against the paper. Its totals "
        "are sums of these: the denoiser's row holds the VQ autoencoder (encoder, decoder; its code book and two 1x1 "
        "convolutions, 0.02 M, are left out here), the exemplar network's holds the encoder again. The paper does not "
        'say what its "SD-based" is made of; these three come to its number. Table 6 sets that whole against EBDM\'s '
        "*trained* parameters, without global encoder and autoencoder. BBDM's U-Net inside the denoiser has "
        f"{p['bridge U-Net without sites']:.2f} M."
    )
    return ["## Table 5: parameters, M", "", about, "", *table(["", "paper", "here", "difference"], cells), ""]


def operations(result: dict) -> list[str]:
    rows = result.get("paper sizes", {})
    if "VQ-f4 encoder" not in rows:
        return []
    f = {name: row["flops"] / 1e12 for name, row in rows.items()}
    side = 2 * f["VQ-f4 encoder"] + f["DINOv2 ViT-B/14"] + f["VQ-f4 decoder"]
    network, step = f["exemplar network"], f["denoiser"]
    hosted, prompt = f["SD1.5 U-Net"] + f["ControlNet"], f["CLIP ViT-B/32"] + f["KL-f8 decoder"]
    smaller = f["CLIP ViT-B/32"] + f["KL-f8 decoder at 256"], f["SD1.5 U-Net at 256"] + f["ControlNet at 256"]

    def line(name: str, once: float, each: float, paper: tuple[float, float] | None = None) -> list[str]:
        told = ["", ""] if paper is None else [f"{value:.2f}" for value in paper]
        return [
            name,
            f"{once:.3f}",
            f"{each:.3f}",
            f"{once + each:.2f}",
            told[0],
            f"{once + PAPER_STEPS * each:.2f}",
            told[1],
        ]

    lines = [
        line("EBDM-f4, exemplar features once", side + network, step, (11.37, 61.72)),
        line("EBDM-f4, exemplar features at every step", side, network + step),
        line("SD1.5, ControlNet, image prompt", prompt, hosted, (11.14, 86.08)),
        line("the same with classifier-free guidance", prompt, 2 * hosted),
        line("the same without guidance, 256 x 256", *smaller),
        _solved("the paper's EBDM, solved for once and each", 11.37, 61.72),
        _solved("the paper's SD-based, solved for once and each", 11.14, 86.08),
    ]  # fmt: skip
    ours, again = side + network + PAPER_STEPS * step, side + PAPER_STEPS * (network + step)
    plain, double, same = (
        once + PAPER_STEPS * each for once, each in ((prompt, hosted), (prompt, 2 * hosted), smaller)
    )
    about = (
        COUNTED + " EBDM-f4: VQ encoder for control and exemplar, DINOv2 at 224 pixels, exemplar network with what the "
        "attentions remember, decoder; photographs of 256 x 256. SD-based: latents of 64 x 64 (512 x 512), CLIP "
        "ViT-B/32, KL decoder, 77 tokens; the image prompt's own small cross-attentions and the text encoder are not "
        "in it. Guidance runs U-Net and ControlNet twice. The paper states none of this."
    )
    said = (
        f"At {PAPER_STEPS} steps the exemplar network, run once and not every time, saves {1 - ours / again:.1%} of "
        f"EBDM's own FLOPs. Against the SD-based way EBDM needs {ours / plain - 1:+.1%}, with guidance "
        f"{ours / double - 1:+.1%}; the paper says -28.21%. But latents of 64 x 64 are pictures of 512 x 512 there and "
        f"of 256 x 256 here: for pictures of one size EBDM needs {ours / same - 1:+.1%}."
    )
    titles = ["", "once", "each step", "1 step", "paper", f"{PAPER_STEPS} steps", "paper"]
    return ["## Table 6: FLOPs at the paper's sizes, T", "", about, "", *table(titles, lines), "", said, ""]


def _solved(name: str, one: float, fifty: float) -> list[str]:
    each = (fifty - one) / (PAPER_STEPS - 1)
    return [name, f"{one - each:.3f}", f"{each:.3f}", "", f"{one:.2f}", "", f"{fifty:.2f}"]


def table(titles: list[str], rows: list[list[str]]) -> list[str]:
    line = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return line + [f"| {' | '.join(row)} |" for row in rows]
