"""Objectives, worlds and the training loop. Used by `scripts/train_small.py`; needs no ComfyUI."""
