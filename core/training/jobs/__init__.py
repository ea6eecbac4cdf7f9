"""Kinds of training: each a frozen dataclass whose fields are the keys of its TOML files, and which makes a `Task`."""

JOBS: dict[str, type] = {}
