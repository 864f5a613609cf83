"""Loss weights."""

import pytest
import torch

from mmagic_cm.registry import WEIGHTINGS, resolve


@pytest.mark.parametrize(
    ('name', 'formula'),
    [
        ('uniform', lambda s, r, d: 1.0),
        ('snr', lambda s, r, d: 1 / s**2),
        ('snr+1', lambda s, r, d: 1 / s**2 + 1),
        ('karras', lambda s, r, d: 1 / s**2 + 1 / d**2),
        ('truncated-snr', lambda s, r, d: max(1 / s**2, 1.0)),
        ('inverse-gap', lambda s, r, d: 1 / (s - r)),
        (dict(type='inverse-gap', power=0.5), lambda s, r, d: (s - r) ** -0.5),
    ],
)
@pytest.mark.parametrize('sigma_data', [0.5, 0.3])
def test_weighting(name, formula, sigma_data):
    sigma = torch.tensor([0.002, 0.5, 1.0, 3.0, 80.0])
    next_sigma = torch.tensor([0.0, 0.25, 0.9, 2.0, 69.0])
    found = resolve(WEIGHTINGS, name)(sigma, next_sigma, sigma_data)
    pairs = zip(sigma.tolist(), next_sigma.tolist(), strict=True)
    expected = torch.tensor([formula(s, r, sigma_data) for s, r in pairs])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
