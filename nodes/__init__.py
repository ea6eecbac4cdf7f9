"""The ComfyUI side of the pack: thin adapters between sockets and `core`.

Each module here exports `NODES`, the list of its node classes; adding a module to `extension` is all it takes to
offer its nodes. Modules are imported inside the function so that a test of one adapter does not load all of them.
"""


def extension():
    """Build the extension ComfyUI asks for: the nodes of every module, in menu order."""
    from comfy_api.latest import ComfyExtension

    from . import (
        bridge,
        chain,
        conditioning,
        exemplar,
        guidance,
        image,
        metrics,
        model,
        motion_adapter,
        motion_algebra,
        motion_camera,
        motion_files,
        motion_flow,
        motion_preview,
        motion_tracks,
        motion_use,
        noise,
        prior,
        restoration,
        track_editor,
        training_adapter,
        training_bridge,
        training_data,
        training_exemplar,
        training_prior,
        warped_diffusion,
    )

    sources = (motion_flow, track_editor, motion_tracks, motion_camera, motion_files)
    motion = (*sources, motion_algebra, motion_use, motion_adapter, chain, motion_preview, metrics)
    models = (bridge, prior, model, restoration, conditioning, exemplar)
    training = (training_data, training_bridge, training_prior, training_adapter, training_exemplar)
    modules = (*models, image, *motion, noise, guidance, warped_diffusion, *training)

    class AqueductExtension(ComfyExtension):
        async def get_node_list(self):
            return [node for module in modules for node in module.NODES]

    return AqueductExtension()
