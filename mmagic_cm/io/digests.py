"""Digests: by which files, weights and settings are told apart."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch


def file_digest(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def text_digest(text: str) -> str:
    """16 hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def tensors_digest(tensors: Mapping[str, torch.Tensor], text: str = '') -> str:
    """16 hexadecimal digits of tensors with their names, in any order, and of a text."""
    digest = hashlib.blake2b(text.encode(), digest_size=8)
    for name, tensor in sorted(tensors.items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)} '.encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()
