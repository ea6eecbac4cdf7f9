"""CMP: against torchvision's ResNet-50 and a plain reading of its decoder, and in its released file."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.networks import Cmp
from aqueduct.core.networks.cmp import expected_flow

LAYOUT = Path(__file__).resolve().parents[1] / "data" / "mofa_cmp.txt"
POOL = 1 << 22
GREY = (0.485, 0.456, 0.406)  # ImageNet's mean: zero to the network


def layout() -> dict[str, tuple[int, ...]]:
    lines = (line.split("\t") for line in LAYOUT.read_text(encoding="ascii").splitlines())
    shapes = {key: shape.replace("(", "[").replace(",)", ")").replace(")", "]") for key, shape, _ in lines}
    return {key: tuple(json.loads(shape)) for key, shape in shapes.items()}


def released_weights() -> dict[str, Tensor]:
    """Random tensors in the released layout; the large ones are windows of one pool, so that the file stays small."""
    generator = torch.Generator().manual_seed(1)
    pool = torch.randn(POOL, generator=generator) * 0.02
    state = {}
    for key, shape in layout().items():
        count = torch.Size(shape).numel()
        start = int(torch.randint(POOL - count, (1,), generator=generator))
        state[key] = pool[start : start + count].view(shape)
        if key.endswith("running_var"):
            state[key] = state[key].abs() + 0.5
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(42000)
    return state


@pytest.fixture(scope="module")
def network() -> Cmp:
    """Float64, with batch norms whose statistics and weights are all different."""
    torch.manual_seed(0)
    network = Cmp().double().eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.3, 0.8)
            module.weight.uniform_(0.8, 1.2)
            module.bias.normal_(0, 0.1)
    return network


def inputs(size: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    image = torch.randn(2, 3, size, size, generator=generator, dtype=torch.float64)
    return image, torch.randn(2, 4, size, size, generator=generator, dtype=torch.float64)


# --- the network ------------------------------------------------------------------------------------------------------


def resnet_features(network: Cmp, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By torchvision's ResNet-50 with the same weights: after conv1, layer1 and layer4."""
    resnet50 = pytest.importorskip("torchvision.models").resnet50
    resnet = resnet50().double().eval()
    missing, unexpected = resnet.load_state_dict(network.image_encoder.state_dict(), strict=False)
    assert missing == ["fc.weight", "fc.bias"] and unexpected == ["conv5.weight", "conv5.bias"]
    for layer, dilation in ((resnet.layer3, 2), (resnet.layer4, 4)):
        for block in layer:
            block.conv2.stride, block.conv2.padding, block.conv2.dilation = (1, 1), (dilation,) * 2, (dilation,) * 2
        layer[0].downsample[0].stride = (1, 1)
    half = resnet.relu(resnet.bn1(resnet.conv1(image)))
    quarter = resnet.layer1(resnet.maxpool(half))
    return half, quarter, resnet.layer4(resnet.layer3(resnet.layer2(quarter)))


@torch.no_grad()
def test_the_encoder_is_a_dilated_resnet(network):
    image, _ = inputs()
    half, quarter, features = network.image_encoder(image)
    expected_half, expected_quarter, last = resnet_features(network, image)
    assert half.shape[-1] == 32 and quarter.shape[-1] == 16 and features.shape == (2, 256, 8, 8)
    torch.testing.assert_close(half, expected_half)
    torch.testing.assert_close(quarter, expected_quarter)
    conv5 = network.image_encoder.conv5
    torch.testing.assert_close(features, F.conv2d(last, conv5.weight, conv5.bias))


class Reading:
    """The decoder and the encoder of hints, read from the names of the tensors; batch norm by its formula."""

    def __init__(self, network: Cmp):
        self.state = network.state_dict()

    def block(self, x: Tensor, name: str, at: int, stride: int = 1) -> Tensor:
        """Convolution ``name.at``, batch norm ``name.at + 1``, ReLU."""
        weight, bias = (self.state[f"{name}.{at}.{part}"] for part in ("weight", "bias"))
        x = F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)
        parts = ("running_mean", "running_var", "weight", "bias")
        mean, var, scale, shift = (self.state[f"{name}.{at + 1}.{part}"][:, None, None] for part in parts)
        return ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)

    def hints(self, sparse: Tensor) -> Tensor:
        x = F.max_pool2d(self.block(sparse, "flow_encoder.features", 0, stride=2), 2)
        return F.avg_pool2d(self.block(x, "flow_encoder.features", 4), 2)

    def scale(self, x: Tensor, factor: int) -> Tensor:
        name, first = f"flow_decoder.decoder{factor}", factor > 1
        size, x = x.shape[-2:], F.max_pool2d(x, factor)
        for at in (0, 3, 6):
            x = self.block(x, name, at + first)
        return self.enlarged(x, size)

    @staticmethod
    def enlarged(x: Tensor, size) -> Tensor:
        """Corners on corners, by linear maps: row i of the answer lies at i (n - 1) / (m - 1)."""
        for axis, length in ((2, size[0]), (3, size[1])):
            old = x.shape[axis]
            at = torch.arange(length) * ((old - 1) / max(length - 1, 1))
            weights = (1 - (at[:, None] - torch.arange(old)).abs()).clamp(min=0).double()
            x = torch.tensordot(x, weights, ([axis], [1])).movedim(-1, axis)
        return x

    def logits(self, features: Tensor, quarter: Tensor, half: Tensor, sparse: Tensor) -> Tensor:
        joint = torch.cat([features, self.hints(sparse)], 1)
        x = self.block(torch.cat([self.scale(joint, factor) for factor in (1, 2, 4, 8)], 1), "flow_decoder.fusion8", 0)
        for skip, level in ((quarter, 4), (half, 2)):
            skipped = self.block(skip, f"flow_decoder.skipconv{level}", 0)
            joined = torch.cat([self.enlarged(x, skip.shape[-2:]), skipped], 1)
            x = self.block(joined, f"flow_decoder.fusion{level}", 0)
        weight, bias = (self.state[f"flow_decoder.head.{part}"] for part in ("weight", "bias"))
        return F.conv2d(x, weight, bias)


@torch.no_grad()
def test_logits_are_what_the_names_say(network):
    image, sparse = inputs()
    half, quarter, last = resnet_features(network, image)
    conv5 = network.image_encoder.conv5
    features = F.conv2d(last, conv5.weight, conv5.bias)
    expected = Reading(network).logits(features, quarter, half, sparse)
    got = network(image, sparse)
    assert got.shape == (2, 198, 32, 32) and got.std() > 1e-3
    torch.testing.assert_close(got, expected)


def test_bins_become_pixels():
    """99 bins over -50..50: their centres, and means of them; x first."""
    logits = torch.full((1, 198, 1, 3), -1e4, dtype=torch.float64)
    logits[0, [0, 98, 49], 0, [0, 1, 2]] = 0
    logits[0, 99 + 50] = 0
    logits[0, 99 + 51, 0, 2] = 0
    step = 100 / 99
    expected = torch.tensor([[-50 + step / 2, 50 - step / 2, 0], [step, step, 1.5 * step]], dtype=torch.float64)
    torch.testing.assert_close(expected_flow(logits)[0, :, 0], expected)


@pytest.mark.parametrize("sizes", [((1, 3, 72, 64), (1, 4, 72, 64)), ((1, 3, 64, 64), (1, 4, 64, 128))])
def test_the_network_says_what_it_takes(network, sizes):
    with pytest.raises(ValueError, match="multiples of 64"):
        network(*(torch.zeros(size) for size in sizes))


# --- pictures of any size ---------------------------------------------------------------------------------------------


class Heard(Cmp):
    """Keeps what it is asked, and answers that everything moves by the same bins."""

    def __init__(self, x: int, y: int):
        super().__init__(device="meta")
        self.bins, self.calls = (x, 99 + y), []

    def forward(self, image, sparse):
        self.calls.append((image, sparse))
        logits = torch.full((len(image), 198, 192, 192), -1e4)
        logits[:, list(self.bins)] = 0
        return logits


def hinted(height: int, width: int, *points) -> tuple[Tensor, Tensor, Tensor]:
    """A grey picture, and hints ``(row, column, x, y)``."""
    picture = torch.tensor(GREY)[None, :, None, None].repeat(1, 1, height, width)
    hints, known = torch.zeros(1, 2, height, width), torch.zeros(1, 1, height, width, dtype=torch.bool)
    for row, column, x, y in points:
        hints[0, :, row, column], known[0, 0, row, column] = torch.tensor([x, y]), True
    return picture, hints, known


def test_what_the_network_is_asked_and_answers():
    """A picture of 192 x 768: 384 is half as wide and twice as high, and so are the hints."""
    network = Heard(49 + 10, 49 - 5)
    flow = network.flow(*hinted(192, 768, (10, 101, 60.0, 20.0), (100, 300, 0.0, 0.0)))
    image, sparse = network.calls[0]
    assert image.shape == (1, 3, 384, 384) and image.abs().max() < 1e-5
    assert sparse[0, 2].nonzero().tolist() == [[21, 50], [201, 150]] and torch.equal(sparse[:, 2], sparse[:, 3])
    # (60, 20) becomes (30, 40), of length 50, and the network is shown it 20 pixels long
    torch.testing.assert_close(sparse[0, :2, 21, 50], torch.tensor([12.0, 16.0]))
    assert sparse[0, :2].count_nonzero() == 2
    step = 100 / 99
    expected = torch.tensor([10 * step * 2.5 * 2, -5 * step * 2.5 / 2])
    torch.testing.assert_close(flow, expected[None, :, None, None].expand(1, 2, 192, 768), rtol=1e-4, atol=1e-4)


def test_pictures_are_normalised_as_in_its_training():
    network = Heard(49, 49)
    network.flow(torch.ones(1, 3, 384, 384), *hinted(384, 384)[1:])
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(network.calls[0][0][0, :, 7, 300], expected)


@torch.no_grad()
def test_motion_scales_with_the_picture_and_with_the_hints():
    """The same picture and hints twice as large, and twice as fast, are the same question to the network."""
    torch.manual_seed(3)
    network = Cmp().eval()
    network.flow_decoder.head.weight.mul_(100)
    flow, other = (network.flow(*hinted(384, 384, (100, 200, x, -1.0))) for x in (3.0, 1.0))
    assert flow.std() > 0.05 and (other - flow).std() > 0.01
    twice = network.flow(*hinted(768, 768, (201, 401, 6.0, -2.0)))
    torch.testing.assert_close(twice, F.interpolate(2 * flow, scale_factor=2, mode="bilinear"), rtol=1e-4, atol=1e-4)
    fast = network.flow(*hinted(384, 384, (100, 200, 6.0, -2.0)))
    torch.testing.assert_close(fast, 2 * flow, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("points", [(), ((5, 5, 0.0, 0.0),)])
def test_without_motion_everything_rests(points):
    """Whatever the network says: what stands still must not depend on how fast the steps before and after were."""
    network = Heard(60, 70)
    flow = network.flow(*hinted(30, 20, *points))
    assert flow.shape == (1, 2, 30, 20) and not flow.any()
    sparse = network.calls[0][1]
    assert not sparse[:, :2].any() and sparse[:, 2].sum() == len(points)


# --- the released file ------------------------------------------------------------------------------------------------


def released(state: dict, path: Path) -> Path:
    torch.save({"step": 42000, "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}, path)
    return path


def test_the_released_file_loads_whole(tmp_path):
    state = released_weights()
    path = released(state, tmp_path / "ckpt_iter_42000.pth.tar")
    assert path.stat().st_size < 40e6
    network, config = checkpoints.load(path, part="densifier")
    assert config["parts"] == {"densifier": {"architecture": "Cmp", "arguments": {}}} and "MOFA" in config["about"]
    own = network.state_dict()
    assert len(own) == len(state) == 455
    assert all(torch.equal(own[key.removeprefix("module.")], value) for key, value in state.items())
    with torch.no_grad():
        flow = network.flow(*hinted(50, 70, (20, 30, 4.0, 0.0)))
    assert flow.shape == (1, 2, 50, 70) and torch.isfinite(flow).all()


def test_near_misses_are_explained(tmp_path):
    state = released_weights()
    del state["module.flow_encoder.features.1.num_batches_tracked"]
    with pytest.raises(ValueError, match=r"Closest: CMP.*1 missing \(flow_encoder.features.1.num_batches_tracked\)"):
        checkpoints.read_config(released(state, tmp_path / "cut.pth.tar"))
