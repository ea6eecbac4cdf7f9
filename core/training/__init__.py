"""Trainings: tasks and their objectives, worlds to learn from, the loop, recipes as TOML files. Needs no ComfyUI."""
