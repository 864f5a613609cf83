"""Sampling: the one loop, the labels, which sampler a user means, sets of files."""

from .loop import check_seed, choose_labels, iter_samples, sample_images

__all__ = ['check_seed', 'choose_labels', 'iter_samples', 'sample_images']
