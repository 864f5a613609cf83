"""Judging drawn digits by what has never seen them."""

from dataclasses import asdict, dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import SVC

from ..datasets.digits import load_split
from .fid import frechet_distance


@dataclass(frozen=True)
class Verdict:
    """What is said of a set of digits.

    Attributes:
        accuracy: Share that the classifier reads as their label.
        frechet_distance: To the real training digits, on pixels in [-1, 1] (64 dimensions).
        near_copies: Share that lies suspiciously near to a training digit.
    """

    accuracy: float
    frechet_distance: float
    near_copies: float

    def as_dict(self) -> dict[str, float]:
        """For a report."""
        return asdict(self)


class DigitsJudge:
    """Compares drawn digits with scikit-learn's real ones.

    The classifier is an SVC (gamma = 0.001) on the 1,400 training digits, pixel values 0..16. A
    near copy is nearer to its nearest training digit than half the median distance at which the
    real test digits have theirs. Accuracy alone can be had by drawing ten class means, and the
    Fréchet distance by ignoring the labels: only together do they say anything.
    """

    def __init__(self) -> None:
        images, labels = load_split('train')
        self._training = pixels(images)
        self._classifier = SVC(gamma=0.001).fit(_grey_levels(images), labels)
        self._neighbours = NearestNeighbors(n_neighbors=1).fit(self._training)
        test_images, test_labels = load_split('test')
        self._copy_distance = np.median(self._nearest(test_images)) / 2
        self.real = self.judge(test_images, test_labels)

    def judge(self, images: np.ndarray, labels: np.ndarray) -> Verdict:
        """Judge uint8 (N, 8, 8, 1) images that are meant to show ``labels`` (N,)."""
        return Verdict(
            accuracy=float(np.mean(self._classifier.predict(_grey_levels(images)) == labels)),
            frechet_distance=frechet_distance(pixels(images), self._training),
            near_copies=float(np.mean(self._nearest(images) < self._copy_distance)),
        )

    def _nearest(self, images: np.ndarray) -> np.ndarray:
        return self._neighbours.kneighbors(pixels(images))[0][:, 0]


def pixels(images: np.ndarray) -> np.ndarray:
    """uint8 (N, 8, 8, 1) -> (N, 64) in [-1, 1], the space of the distances."""
    return images.reshape(len(images), -1) / 127.5 - 1


def _grey_levels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) * (16 / 255)
