"""Sizes of networks to choose from by name, fitted to the data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LatteSize:
    """Widths of a `LatteVideo`; ``patch`` None: the smallest that leaves at most ``tokens`` tokens to a frame."""

    hidden: int
    depth: int
    heads: int
    patch: int | None = None
    tokens: int = 0

    def arguments(self, shape: tuple[int, int, int, int], classes: int) -> dict:
        """Of a network from and to clips of ``shape`` [c, f, h, w]. Raises ValueError where no patch fits."""
        channels, frames, height, width = shape
        return {
            "in_channels": channels, "out_channels": channels, "frames": frames, "height": height, "width": width,
            "patch": self._patch(height, width), "hidden": self.hidden, "depth": self.depth, "heads": self.heads,
            "classes": classes,
        }  # fmt: skip

    def _patch(self, height: int, width: int) -> int:
        tried = [self.patch] if self.patch else [2**n for n in range(1, 11)]
        fitting = [p for p in tried if height % p == 0 == width % p]
        small = [p for p in fitting if self.patch or height * width <= self.tokens * p**2]
        if not small:
            most = f" and leave at most {self.tokens} patches to a frame" if fitting else ""
            raise ValueError(
                f"no patch of {', '.join(map(str, tried))} pixels a side can divide latents of {width} x {height}"
                f"{most}: choose another size of the network, or prepare clips whose sides are multiples of a power of "
                f"two"
            )
        return small[0]


# Latte's own sizes have 2 x 2 patches of latents of 32 x 32; the small ones are for a CPU.
LATTE_SIZES: dict[str, LatteSize] = {
    "tiny": LatteSize(64, 4, 4, tokens=16),
    "small": LatteSize(128, 6, 4, tokens=64),
    "Latte-S/2": LatteSize(384, 12, 6, patch=2),
    "Latte-B/2": LatteSize(768, 12, 12, patch=2),
}
