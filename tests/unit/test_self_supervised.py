"""VICReg against its own formulas written out, and views whose content is known."""

import pytest
import torch

from aqueduct.core.training.self_supervised import projector, random_view, vicreg, view_loss


def test_equals_the_paper_written_out():
    generator = torch.Generator().manual_seed(0)
    a, b = (0.7 * torch.randn(40, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = 25 * (a - b).square().sum(1).mean() / 5  # the mean over features, as its published code has it
    for x in (a, b):
        deviations = torch.tensor([x[:, j].var().add(1e-4).sqrt() for j in range(5)])
        expected += 25 * (1 - deviations).clamp(min=0).sum() / 5
        covariance = torch.cov(x.T)
        expected += sum(covariance[i, j] ** 2 for i in range(5) for j in range(5) if i != j) / 5
    assert vicreg(a, b).item() == pytest.approx(expected.item(), rel=1e-10)


def test_each_term_sees_what_it_is_for():
    generator = torch.Generator().manual_seed(1)
    whitened = torch.linalg.qr(torch.randn(256, 4, generator=generator, dtype=torch.float64))[0]
    whitened = (whitened - whitened.mean(0)) @ torch.eye(4, dtype=torch.float64)
    whitened = torch.linalg.qr(whitened)[0] * 255**0.5 * 1.01  # centred, uncorrelated, deviation just above 1
    assert vicreg(whitened, whitened).item() == pytest.approx(0, abs=1e-12)
    collapsed = torch.zeros_like(whitened)
    assert vicreg(collapsed, collapsed).item() == pytest.approx(2 * 25 * (1 - 0.01), rel=1e-6)
    repeated = whitened[:, :1].expand(-1, 4)
    assert vicreg(repeated, repeated, covariance=0.0).item() == pytest.approx(0, abs=1e-12)
    assert vicreg(repeated, repeated).item() > 1


def test_a_view_is_a_crop_of_its_own_picture():
    """A picture whose channels are its own number, x and y: the view's x and y are then affine in the place."""
    x = torch.linspace(-1 + 1 / 32, 1 - 1 / 32, 32)
    pictures = torch.stack([torch.stack([torch.full((32, 32), n / 8), x.expand(32, 32), x[:, None].expand(32, 32)])
                            for n in range(8)])  # fmt: skip
    views = random_view(pictures, torch.Generator().manual_seed(2), least=0.4)
    assert views.shape == pictures.shape
    inner = views[:, :, 2:-2, 2:-2]
    assert torch.allclose(inner[:, 0], (torch.arange(8) / 8)[:, None, None].expand(8, 28, 28), atol=1e-6)
    slope = inner[:, 1, 0].diff(dim=-1)
    sides = slope.abs().mean(-1) / (2 / 32)
    assert ((sides > 0.4 - 1e-4) & (sides < 1 + 1e-4)).all() and sides.std() > 0.05
    assert {bool(s > 0) for s in slope.mean(-1)} == {True, False}  # some are mirrored, some are not
    assert (inner[:, 2].diff(dim=1).mean((1, 2)) > 0).all()  # none upside down


def test_same_generator_same_views():
    pictures = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    one, two = (random_view(pictures, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two)


def test_a_few_steps_lower_the_loss():
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 8))
    head = projector(8, 16)
    generator = torch.Generator().manual_seed(5)
    pictures = torch.randn(32, 3, 1, 1, generator=generator).expand(-1, -1, 8, 8)
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 1e-2)
    losses = []
    for _ in range(60):
        loss = view_loss(encoder, head, pictures, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
