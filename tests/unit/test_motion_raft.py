"""RAFT from a file: which variant it is, what is foreign in it, and how images reach the network.

The architecture and the names of the tensors are torchvision's own; the weights are random.
"""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from aqueduct.core.motion.estimators import RELEASES, estimate_motion, load_raft, raft_from_module, where_to_get
from aqueduct.core.motion.estimators.raft import pair_bytes

flow_models = pytest.importorskip("torchvision.models.optical_flow")


def network(variant):
    torch.manual_seed(5)
    return getattr(flow_models, RELEASES[variant].builder)(weights=None).eval()


@pytest.fixture(scope="module")
def small():
    return network("raft-small")


def images(count, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(count, 3, height, width, generator=generator)
    return first, first.roll((1, 2), (-2, -1))


class Recorder(torch.nn.Module):
    """Stands where RAFT stands; keeps what it is given, answers with the place of each pixel in the padded image."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.feature_encoder = self.context_encoder = self.corr_block = self.update_block = torch.nn.Identity()

    def forward(self, first, second, num_flow_updates):
        self.seen, self.updates = (first, second), num_flow_updates
        y, x = torch.meshgrid(torch.arange(first.shape[2]), torch.arange(first.shape[3]), indexing="ij")
        flow = torch.stack([x, y]).float().expand(len(first), -1, -1, -1)
        return [torch.full_like(flow, torch.nan), flow]


@pytest.mark.parametrize("variant", RELEASES)
@pytest.mark.parametrize("kind", ["pth", "safetensors", "half"])
def test_a_file_of_weights_is_recognised_and_loaded(variant, kind, tmp_path):
    module = network(variant)
    state = module.state_dict()
    path = tmp_path / ("weights.pth" if kind == "pth" else "weights.safetensors")
    if kind == "pth":
        torch.save(state, path)
    else:
        save_file({k: v.half() if kind == "half" and v.is_floating_point() else v for k, v in state.items()}, path)
    loaded = load_raft(path, updates=1)
    assert loaded.name == f"{variant} ({path.name})"
    assert not loaded.module.training and not any(p.requires_grad for p in loaded.module.parameters())
    for name, value in loaded.module.state_dict().items():
        assert torch.allclose(value, state[name], rtol=1e-3, atol=1e-6 if kind == "half" else 0), name
    flow = loaded(*images(1, 130, 136))
    assert flow.shape == (1, 2, 130, 136) and flow.isfinite().all()


def test_the_releases_are_the_ones_torchvision_publishes():
    assert RELEASES["raft-small"].url == flow_models.Raft_Small_Weights.DEFAULT.url
    assert RELEASES["raft-large"].url == flow_models.Raft_Large_Weights.DEFAULT.url


def test_where_to_get_names_file_source_and_folder():
    said = where_to_get("raft-large", "models/optical_flow")
    assert "raft_large_C_T_SKHT_V2-ff5fadd5.pth (20 MB)" in said
    assert "https://download.pytorch.org/models/raft_large_C_T_SKHT_V2-ff5fadd5.pth into models/optical_flow" in said
    with pytest.raises(ValueError, match="unknown RAFT 'huge'; there are raft-small, raft-large"):
        where_to_get("huge", "models")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.pth does not exist"):
        load_raft(tmp_path / "absent.pth")


def test_a_foreign_file_says_what_it_is(tmp_path):
    path = tmp_path / "raft-things.pth"
    torch.save({"module.fnet.conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(ValueError, match="raft-things.pth is no RAFT of torchvision.*original RAFT or SEA-RAFT code"):
        load_raft(path)
    save_file({"unet.weight": torch.zeros(3)}, tmp_path / "unet.safetensors")
    with pytest.raises(ValueError, match=r"unet.safetensors is no RAFT .*1 unexpected \(unet.weight\)"):
        load_raft(tmp_path / "unet.safetensors")


def test_a_file_that_is_nearly_right_names_the_difference(small, tmp_path):
    state = dict(small.state_dict())
    gone = state.pop(next(iter(state)))
    torch.save(state, tmp_path / "cut.pth")
    assert gone is not None
    with pytest.raises(ValueError, match=r"cut.pth is not raft-small .*: 1 missing \(feature_encoder"):
        load_raft(tmp_path / "cut.pth")


def test_a_damaged_file_is_no_riddle(tmp_path):
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    with pytest.raises(ValueError, match="page.pth is neither a safetensors file nor a PyTorch checkpoint"):
        load_raft(tmp_path / "page.pth")


def test_images_reach_the_network_in_its_range_and_padded_by_their_border():
    recorder = Recorder()
    first, second = images(2, 133, 90)
    flow = raft_from_module(recorder, updates=7)(first, second)
    assert recorder.updates == 7
    for given, seen in zip((first, second), recorder.seen, strict=True):
        edges = ((0, 0), (0, 0), (1, 2), (19, 19))  # to 136 x 128: multiples of 8, at least 128
        assert np.allclose(seen.numpy(), np.pad(given.numpy() * 2 - 1, edges, mode="edge"), atol=1e-6)
    y, x = torch.meshgrid(torch.arange(133), torch.arange(90), indexing="ij")
    assert torch.equal(flow[0], torch.stack([x + 19, y + 1]).float())  # the last answer, without the padding


def test_a_size_the_network_takes_is_not_padded():
    recorder = Recorder()
    raft_from_module(recorder)(*images(1, 128, 136))
    assert recorder.seen[0].shape == (1, 3, 128, 136)


@pytest.mark.parametrize("variant", RELEASES)
def test_a_batch_agrees_with_a_loop(variant):
    estimator = raft_from_module(network(variant), updates=2)
    first, second = images(3, 128, 136)
    batched = estimator(first, second)
    looped = torch.cat([estimator(first[i : i + 1], second[i : i + 1]) for i in range(3)])
    # other batch sizes take other convolution kernels: equal up to rounding (measured 1e-5 of vectors of 3 px)
    assert torch.allclose(batched, looped, atol=1e-3)
    assert not torch.allclose(batched[0], batched[1], atol=1e-2)


def test_a_clip_goes_through_the_network_in_both_directions(small):
    estimator = raft_from_module(small, updates=1)
    first, second = images(1, 128, 144)
    motion = estimate_motion(torch.cat([first, second]), estimator)
    assert torch.allclose(motion.forward, estimator(first, second), atol=1e-4)
    assert torch.allclose(motion.backward, estimator(second, first), atol=1e-4)
    assert not motion.forward.is_inference()


def test_a_module_is_used_as_it_is_and_left_so(small):
    before = {name: value.clone() for name, value in small.state_dict().items()}
    small.train()
    try:
        raft_from_module(small, updates=1)(*images(2, 128, 128))  # training mode would move the batch statistics
        assert small.training
    finally:
        small.eval()
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def test_what_is_no_raft_is_refused():
    with pytest.raises(ValueError, match="OPTICAL_FLOW should hold torchvision's RAFT, got Linear without feature_enc"):
        raft_from_module(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="at least one update"):
        raft_from_module(Recorder(), updates=0)


def test_memory_grows_with_the_square_of_the_cells():
    cells = (512 // 8) ** 2
    assert pair_bytes(512, 512) > 4 * cells**2 * 4 / 3
    assert pair_bytes(1024, 1024) > 8 * pair_bytes(512, 512)
    assert pair_bytes(8, 8) == pair_bytes(128, 128)  # what is padded costs as much
