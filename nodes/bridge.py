"""Nodes of the bridge itself: process, times, sampler, alignment of a host."""

from comfy_api.latest import io, ui

from ..core.bridges import PROCESSES, SOLVERS, SPACINGS, checked_times, make_bridge, times
from ..core.bridges.solvers import choose_solver
from ..core.plots.curves import bridge_curves
from ._comfy.alignment import align_model
from ._comfy.sampler import BridgeSampler, to_sigmas
from ._comfy.schema import BRIDGE, CATEGORY, Schema

# widget of AqueductBridge -> (process, its constant, the paper's value, tooltip)
CONSTANTS = {
    "gmax_beta_min": ("bridge-gmax", "beta_min", 0.01, (
        "bridge-gmax: noise rate g^2 at the video end, squared latent units per unit of bridge time. FrameBridge: 0.01"
    )),
    "gmax_beta_max": ("bridge-gmax", "beta_max", 50.0, (
        "bridge-gmax: noise rate g^2 at the prior end, same unit; at least gmax_beta_min. FrameBridge: 50"
    )),
    "brownian_variance": ("brownian", "variance", 1.0, (
        "brownian: s in c^2 = 2 s t (1 - t), squared latent units. BBDM and EBDM: 1"
    )),
    "vp_beta_min": ("vp", "beta_min", 0.1, (
        "vp: rate at the data end, per unit of bridge time. DDBM and DBIM: 0.1"
    )),
    "vp_beta_d": ("vp", "beta_d", 2.0, (
        "vp: growth of the rate, per unit of bridge time squared. DDBM and DBIM: 2"
    )),
    "ve_sigma_max": ("ve", "sigma_max", 80.0, (
        "ve: standard deviation of the unpinned process at the prior end, latent units. DDBM: 80"
    )),
    "i2sb_beta_max": ("i2sb", "beta_max", 0.3, (
        "i2sb: upper end of the released rates, squared latent units per unit of bridge time (the schedule climbs half "
        "way to it and back). I2SB: 0.3 (JPEG, super-resolution), 1 (deblur, inpaint)"
    )),
    "lbm_noise": ("lbm", "noise", 0.005, "lbm: k in c = k sqrt(t (1 - t)), latent units. LBM: 0.005"),
}  # fmt: skip
SPACING_TOOLTIP = (
    "Where the model is evaluated. uniform: equal steps from the prior. trailing (CogVideoX), inclusive (Latte): as "
    "FrameBridge's released models are sampled, with sde; they start just below the prior, not for SNR-aligned models. "
    "half_log_snr: equal steps in log(a/c), good for dbim. karras: dense near the video end. bbdm: as BBDM's "
    "checkpoints are sampled, with solver bbdm"
)
SOLVER_TOOLTIP = (
    "sde: first-order SDE, FrameBridge's choice. ode: the same without noise after the first step. dbim-1: between the "
    "two (eta). dbim-2, dbim-3: the ode at higher order, for few steps. bbdm: BBDM's own step, for its "
    "checkpoints and for models that take exemplars"
)


class AqueductBridge(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        constants = [
            io.Float.Input(name, default=default, min=1e-6, max=1e4, step=0.001, round=False, tooltip=tooltip)
            for name, (_, _, default, tooltip) in CONSTANTS.items()
        ]
        return Schema(
            node_id="AqueductBridge",
            display_name="Bridge Process",
            category=f"{CATEGORY}/bridge",
            description="A bridge from a prior to data: two functions of time, shown as its a, b, c curves.",
            search_aliases=["diffusion bridge", "schrodinger bridge", "framebridge", "brownian bridge", "ddbm", "i2sb"],
            is_output_node=True,
            inputs=[
                io.Combo.Input("kind", options=list(PROCESSES), default="bridge-gmax", tooltip=(
                    "Process; it reads only its own widgets below. bridge-gmax: FrameBridge. brownian: BBDM, EBDM. "
                    "vp, ve: DDBM, DBIM. i2sb: I2SB. lbm: LBM. A trained model needs its own process: take it from "
                    "AqueductLoadBridgeModel"
                )),
                *constants,
            ],
            outputs=[BRIDGE.Output(display_name="bridge"), io.Image.Output(display_name="curves")],
        )  # fmt: skip

    @classmethod
    def execute(cls, kind, **widgets):
        own = {constant: widgets[name] for name, (of, constant, _, _) in CONSTANTS.items() if of == kind}
        bridge = make_bridge(kind, **own)
        picture = bridge_curves(bridge)
        return io.NodeOutput(bridge, picture, ui=ui.PreviewImage(picture, cls=cls))


class AqueductBridgeCurves(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductBridgeCurves",
            display_name="Bridge Curves",
            category=f"{CATEGORY}/bridge",
            description="Draws the a, b, c curves of any bridge and the times a schedule evaluates.",
            search_aliases=["plot bridge", "bridge preview"],
            inputs=[
                BRIDGE.Input("bridge", tooltip="The process to draw"),
                io.Sigmas.Input("sigmas", optional=True, tooltip=(
                    "Bridge times to mark, 1 (prior) to 0 (video), from AqueductBridgeTimes"
                )),
            ],
            outputs=[io.Image.Output(display_name="curves")],
        )  # fmt: skip

    @classmethod
    def execute(cls, bridge, sigmas=None):
        return io.NodeOutput(bridge_curves(bridge, None if sigmas is None else checked_times(sigmas)))


class AqueductBridgeTimes(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductBridgeTimes",
            display_name="Bridge Times",
            category=f"{CATEGORY}/bridge",
            description="SIGMAS for bridge sampling: bridge times from 1 (the prior) down to 0 (the video).",
            search_aliases=["bridge scheduler", "bridge sigmas"],
            inputs=[
                BRIDGE.Input("bridge", tooltip="The process whose times are laid out"),
                io.Int.Input("steps", default=20, min=1, max=1000, tooltip=(
                    "Model evaluations (twice as many with CFG). FrameBridge: 50 (fine-tuned) or 250 (from scratch); "
                    "the shipped models need 5 to 20"
                )),
                io.Combo.Input("spacing", options=list(SPACINGS), default="uniform", tooltip=SPACING_TOOLTIP),
            ],
            outputs=[io.Sigmas.Output(display_name="sigmas")],
        )  # fmt: skip

    @classmethod
    def execute(cls, bridge, steps, spacing):
        return io.NodeOutput(to_sigmas(times(bridge, steps, spacing)))


class AqueductBridgeSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductBridgeSampler",
            display_name="Bridge Sampler",
            category=f"{CATEGORY}/bridge",
            description="SAMPLER for SamplerCustomAdvanced: walks from its LATENT (z_T) to the video in bridge time.",
            search_aliases=["sde bridge", "dbim", "bbdm", "bridge solver"],
            inputs=[
                BRIDGE.Input("bridge", tooltip="The process: the MODEL's own, or the one it was aligned to"),
                io.Combo.Input("solver", options=list(SOLVERS), default="sde", tooltip=SOLVER_TOOLTIP),
                io.Float.Input("eta", default=1.0, min=0.0, max=1.0, step=0.05, tooltip=(
                    "Share of fresh noise in each step, no unit: 0 (ode) to 1 (sde). Read by dbim-1 and bbdm only; "
                    "dbim-1 at 1 is sde. DBIM: 0. BBDM: 1"
                )),
            ],
            outputs=[io.Sampler.Output(display_name="sampler")],
        )  # fmt: skip

    @classmethod
    def execute(cls, bridge, solver, eta):
        _, eta = choose_solver(solver, eta if SOLVERS[solver].eta_free else None)
        return io.NodeOutput(BridgeSampler(bridge, solver, eta))


class AqueductSNRAlign(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductSNRAlign",
            display_name="SNR Align Model to Bridge",
            category=f"{CATEGORY}/bridge",
            description=(
                "Turns any diffusion or flow MODEL into a bridge denoiser: each bridge state becomes a state of the "
                "model's own process with the same signal-to-noise ratio (FrameBridge section 4.3, Proposition 2). The "
                "prior is subtracted on the way, so the image must reach the model by its conditioning or by training."
            ),
            search_aliases=["SAF", "snr aligned fine-tuning", "framebridge host", "image to video any model"],
            inputs=[
                io.Model.Input("model", tooltip=(
                    "Any core MODEL: Wan, LTXV, SD1.5, SDXL, SVD, Flux ... (eps, v, EDM or flow)"
                )),
                BRIDGE.Input("bridge", tooltip="The process to sample it with; wire the same one to times and sampler"),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, bridge):
        return io.NodeOutput(align_model(model, bridge))


NODES = [AqueductBridge, AqueductBridgeCurves, AqueductBridgeTimes, AqueductBridgeSampler, AqueductSNRAlign]
