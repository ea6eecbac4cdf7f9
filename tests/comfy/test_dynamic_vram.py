"""Dynamic VRAM, which newer versions have on by default on NVIDIA cards: what of it can be seen without one.

0.3.75 has nothing of the kind; there it is imitated.
"""

import importlib.util

import pytest
import torch

from aqueduct.core import checkpoints
from aqueduct.tests.comfy import adapter_files, bridge_files, exemplar_files, restoration_files
from aqueduct.tests.comfy.graph import run
from aqueduct.tests.comfy.host_training import clips_like, host_of
from aqueduct.tests.comfy.hosts import sd15


@pytest.fixture(scope="module", autouse=True)
def folder(comfy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dynamic")
    adapter_files.write_all(folder)
    bridge_files.write(folder, "shipped")
    exemplar_files.write(folder, "own")
    restoration_files.write(folder, "inpaint")
    bridge_files.offer(folder)
    yield folder
    _withdraw(folder)  # others call files of theirs by these names


def _withdraw(folder):
    import folder_paths

    from aqueduct.nodes._comfy.files import FOLDER

    folder_paths.folder_names_and_paths[FOLDER][0].remove(str(folder))


@pytest.fixture
def dynamic_vram(monkeypatch):
    """Layers of ComfyUI have no weights before a file is read into them, unless they read files in their own way."""
    import comfy.ops

    if importlib.util.find_spec("comfy.memory_management"):
        import comfy.memory_management

        monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True)
    else:
        linear = comfy.ops.disable_weight_init.Linear
        monkeypatch.setattr(linear, "__init__", _without_weights)
        monkeypatch.setattr(linear, "_load_from_state_dict", _read_late, raising=False)
    assert comfy.ops.manual_cast.Linear(2, 3).weight is None


def _without_weights(self, in_features, out_features, bias=True, device=None, dtype=None):
    if type(self)._load_from_state_dict is not _read_late:
        torch.nn.Linear.__init__(self, in_features, out_features, bias, device, dtype)
        return
    torch.nn.Module.__init__(self)
    self.in_features, self.out_features, self.weight, self.bias = in_features, out_features, None, None


def _read_late(self, state, prefix, *args):
    if type(self)._load_from_state_dict is not _read_late:
        torch.nn.Module._load_from_state_dict(self, state, prefix, *args)
        return
    for key, value in state.items():
        setattr(self, key.removeprefix(prefix), torch.nn.Parameter(value.clone(), requires_grad=False))


class Dynamic:
    """A MODEL whose weights come and go, until a clone of another kind is asked for."""

    def __init__(self, patcher):
        self._patcher = patcher

    def is_dynamic(self) -> bool:
        return True

    def clone(self, disable_dynamic: bool = False):
        clone = self._patcher.clone()
        return clone if disable_dynamic else type(self)(clone)

    def __getattr__(self, name: str):
        return getattr(self._patcher, name)


class Unknown(Dynamic):
    """One that ComfyUI cannot load anew: another pack's loader did not say how."""

    def clone(self, disable_dynamic: bool = False):
        if disable_dynamic:
            raise RuntimeError("Cannot create non-dynamic delegate: cached_patcher_init is not initialized.")
        return super().clone()


# node, file, part of it -> the network among what the node gives
FILES = {
    "bridge": ("AqueductLoadBridgeModel", "shipped-float32", "model", lambda given: given[0].model.diffusion_model),
    "prior": ("AqueductLoadBridgeModel", "shipped-float32", "prior", lambda given: given[3].patcher.model),
    "backbone": ("AqueductLoadBridgeModel", "backbone", "model", lambda given: given[0].model.diffusion_model),
    "exemplar": ("AqueductLoadBridgeModel", "own", "model", lambda given: given[0].model.diffusion_model),
    "restoration": ("AqueductLoadRestorationModel", "inpaint", "model", lambda given: given[0].model.diffusion_model),
    **{
        kind: ("AqueductLoadMotionAdapter", f"{kind}-0", "adapter", lambda given: given[0].network)
        for kind in adapter_files.KINDS
    },
    "densifier": ("AqueductLoadMotionAdapter", "dense", "densifier", lambda given: given[1].patcher.model),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_are_read_whole(kind, folder, dynamic_vram):
    node, name, part, network = FILES[kind]
    found = network(run(node, file=f"{name}.safetensors")).state_dict()
    expected = checkpoints.load(folder / f"{name}.safetensors", part)[0].state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key].float(), expected[key].float()) for key in expected)


def test_trainings_beside_a_model_that_comes_and_goes(tmp_path):
    """They take it whole, with all that lies on it, as guidance does."""
    host = sd15()
    model = host.model.clone()
    model.model_options["transformer_options"]["mine"] = 1
    taken = host_of(host, clips_like(host, tmp_path), Dynamic(model)).patcher
    assert not isinstance(taken, Dynamic) and taken.model is model.model
    assert taken.model_options["transformer_options"]["mine"] == 1


def test_a_model_that_only_its_loader_knows_is_refused(tmp_path):
    from aqueduct.nodes._comfy.gradients import clone_for_gradients

    host = sd15()
    model, clips = Unknown(host.model), clips_like(host, tmp_path)
    with pytest.raises(ValueError, match="come and go .*: use mode x0.*, or start ComfyUI with --disable-dynamic-vram"):
        clone_for_gradients(model)
    with pytest.raises(ValueError, match="come and go .*: start ComfyUI with --disable-dynamic-vram"):
        host_of(host, clips, model)


@pytest.mark.parametrize("kind", ["bridge", "exemplar", "restoration"])
def test_the_packs_own_models_can_be_loaded_anew(kind, dynamic_vram):
    node, name, _, network = FILES[kind]
    model = run(node, file=f"{name}.safetensors")[0]
    if not hasattr(model, "cached_patcher_init"):
        pytest.skip("this ComfyUI loads no MODEL anew")
    load, arguments = model.cached_patcher_init
    again = load(*arguments, disable_dynamic=True)
    assert again.model is not model.model and not again.is_dynamic()
    weights = network((again,)).state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in network((model,)).state_dict().items())


def test_what_it_leaves_on_layers_tells_no_trainings_apart(comfy):
    """A network beside a MODEL, as a ControlNet, before and after it has run."""
    from aqueduct.nodes._comfy.identity import Identity

    network = torch.nn.Sequential(torch.nn.Linear(2, 2))
    before = Identity().of(network)
    network.dynamic_vbars, network.dynamic_pins, network.dynamic_patchers = {0: object()}, {0: object()}, {1}
    left = "_v", "_v_signature", "_v_weight", "_pins", "_pin_state", "_prefetch", "seed_key", "bias_lowvram_function"
    for name in left:
        setattr(network[0], name, object())
    assert Identity().of(network) == before
    network[0].gain = 2.0
    assert Identity().of(network) != before
