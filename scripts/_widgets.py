"""Read a saved node's `widgets_values`, which the editor stores by position, back into named inputs.

The positions follow the node's definition, with companions in between that belong to the editor alone: the "control
after generate" choice behind a seed, and the upload button behind the inputs of an image loader.
"""

from collections.abc import Iterator
from typing import Any

from ._console import HouseError

PRIMITIVES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
CONTROL_VALUES = ("fixed", "increment", "decrement", "randomize")
SEED_NAMES = ("seed", "noise_seed")
UPLOAD_OPTIONS = ("image_upload", "video_upload", "audio_upload", "file_upload")
# What the editor saves for widgets that hold no input: buttons, players, previews.
COMPANION_VALUES = ("image", "video", "audio", "file", "", None)


class WorkflowError(HouseError):
    """A workflow that cannot be converted; the message names the node and the input."""


def widget_values(node: dict, info: dict, where: str) -> dict[str, Any]:
    """The values of all widgets of `node` by input name. `where` names the node in errors."""
    saved = node.get("widgets_values") or []
    widgets = list(_widgets(node, info))
    if isinstance(saved, dict):
        return {name: saved.get(name, _default(spec, f"{where}: input {name}")) for name, spec, _ in widgets}
    reader = _Reader(saved)
    values = {}
    for position, (name, spec, ends_required) in enumerate(widgets):
        values[name] = reader.take() if reader.left else _default(spec, f"{where}: input {name}")
        if _has_control(name, spec):
            reader.skip_if(CONTROL_VALUES)
        if ends_required and reader.left > len(widgets) - position - 1 and _has_upload(info):
            reader.skip_if(COMPANION_VALUES)
    while reader.left and reader.skip_if(COMPANION_VALUES):
        continue
    shown = not widgets and all(isinstance(value, str) for value in saved)  # text a node without widgets displayed
    if reader.left and not shown:
        raise WorkflowError(
            f"{where}: {len(saved)} saved widget values for the widgets {', '.join(values) or '(none)'}; "
            f"unexplained: {reader.rest()!r}. The node's inputs have changed since the workflow was saved."
        )
    return values


class _Reader:
    """The saved values, front to back."""

    def __init__(self, values: list):
        self._values = values
        self._next = 0

    @property
    def left(self) -> int:
        return len(self._values) - self._next

    def take(self) -> Any:
        self._next += 1
        return self._values[self._next - 1]

    def skip_if(self, companions: tuple) -> bool:
        """Pass over the next value if it is one of `companions`."""
        found = self.left > 0 and self._values[self._next] in companions
        self._next += found
        return found

    def rest(self) -> list:
        return self._values[self._next :]


def _widgets(node: dict, info: dict) -> Iterator[tuple[str, list, bool]]:
    """(name, definition, is it the last required widget) of each input that has a widget, in the editor's order."""
    entries = {entry["name"]: entry for entry in node.get("inputs") or []}
    required, optional = (
        [(name, spec) for name, spec in info["input"].get(group, {}).items() if _is_widget(spec, entries.get(name))]
        for group in ("required", "optional")
    )
    for index, (name, spec) in enumerate(required):
        yield name, spec, index == len(required) - 1
    for name, spec in optional:
        yield name, spec, False


def _is_widget(spec: list, entry: dict | None) -> bool:
    """A saved input says itself whether it has a widget; one without an entry is judged by its definition.

    Editors before 1.16 save no entry for a plain widget, and a node may have gained inputs since it was saved.
    """
    if entry is not None:
        return "widget" in entry
    kind, options = spec[0], _options(spec)
    if options.get("forceInput") or options.get("rawLink"):
        return False
    return isinstance(kind, list) or kind in PRIMITIVES or "default" in options or "socketless" in options


def _default(spec: list, where: str) -> Any:
    """The value the editor gives a widget that the saved node does not have yet."""
    options = _options(spec)
    if "default" in options:
        return options["default"]
    choices = spec[0] if isinstance(spec[0], list) else options.get("options")
    if choices:
        return choices[0]
    raise WorkflowError(f"{where} has no saved value and its definition no default")


def _has_control(name: str, spec: list) -> bool:
    declared = _options(spec).get("control_after_generate")
    return bool(declared) or (declared is None and spec[0] == "INT" and name in SEED_NAMES)


def _has_upload(info: dict) -> bool:
    specs = info["input"].get("required", {}).values()
    return any(_options(spec).get(option) for spec in specs for option in UPLOAD_OPTIONS)


def _options(spec: list) -> dict:
    return spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
