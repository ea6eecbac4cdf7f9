"""Controls as z_T: edges, masks or poses that a bridge starts from."""

from torch import Tensor

from ...core.controls import COCOSNET_CANNY, canny
from .exemplar_encode import latents, opaque
from .images import to_image


def control_prior(image: Tensor, vae, edges: bool, low: float, high: float) -> tuple[dict, Tensor]:
    """``(LATENT, IMAGE)`` of a control, or of the Canny edges of a picture. Nothing is cut off.

    Raises ValueError for a size the VAE does not take whole, and for a control in which there is nothing.
    """
    control = opaque(image, "control")
    _check_size(control, vae.spacial_compression_encode())
    if edges:
        found = canny(control, **{**COCOSNET_CANNY, "low": low, "high": high})
        control = found.expand(-1, 3, -1, -1).contiguous()
    _check_not_flat(control, edges, high)
    return {"samples": latents(vae, control)}, to_image(control)


def _check_size(control: Tensor, stride: int) -> None:
    height, width = control.shape[-2:]
    whole = [max(1, round(side / stride)) * stride for side in (height, width)]
    if [height, width] != whole:
        raise ValueError(
            f"the control is {width} x {height} pixels, and this VAE takes multiples of {stride}: scale it to "
            f"{whole[1]} x {whole[0]} (ImageScale), so that what comes out lies where the control says"
        )


def _check_not_flat(control: Tensor, edges: bool, high: float) -> None:
    """A film may well fade to black: it is a mistake only where no picture of a batch shows anything."""
    if bool((control == control[:, :, :1, :1]).all()):
        way_out = (
            f"no edge was found, lower the thresholds (high is {high:g})" if edges else "check what is wired to `image`"
        )
        raise ValueError(f"the control has one colour everywhere, and so says nothing: {way_out}")
