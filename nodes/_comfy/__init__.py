"""Everything of the pack that touches ComfyUI's internals: schema, files, samplers, model patcher, latent formats."""
