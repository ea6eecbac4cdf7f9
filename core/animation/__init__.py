"""Long clips: windows of frames, each from the last frames of the one before, anchored to the first frame."""

from .chain import Window, eulerian_chain, window_starts

__all__ = ["Window", "eulerian_chain", "window_starts"]
