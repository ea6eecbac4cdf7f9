"""ComfyUI-Aqueduct: bridge models and optical flow as composable parts of a ComfyUI graph.

This file is all that ComfyUI's loader, pytest and the registry's scanner import, so it stays free of torch, of
comfy and of relative imports at module level: everything heavy waits inside the entry point.
"""

import logging

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint():
    """Return the extension. ComfyUI reports a failure here in one line without its cause, so log the cause first."""
    try:
        from .nodes import extension

        return extension()
    except Exception:
        logging.exception("Aqueduct could not load its nodes")
        raise
