"""Pictures drawn with Pillow (ComfyUI has it): no plotting library at run time."""
