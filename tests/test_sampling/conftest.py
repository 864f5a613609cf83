"""A set of samples, drawn in one batch."""

import pytest

from mmagic_cm.sampling.loop import choose_labels, sample_images

COUNT = 50


@pytest.fixture
def expected(model):
    """The images of seed 2 in one batch, and their labels."""
    labels = choose_labels(model, range(COUNT), seed=2)
    return sample_images(model, range(COUNT), labels, seed=2), labels.numpy()
