"""Datasets: small datasets to learn and test with, as NumPy arrays."""

from fnn.datasets.cifar import cifar10, cifar100
from fnn.datasets.housing import boston_housing, california_housing
from fnn.datasets.idx_images import fashion_mnist, mnist
from fnn.datasets.scikit_learn import breast_cancer, diabetes, digits
from fnn.datasets.words import imdb, reuters

__all__ = [
    "boston_housing",
    "breast_cancer",
    "california_housing",
    "cifar10",
    "cifar100",
    "diabetes",
    "digits",
    "fashion_mnist",
    "imdb",
    "mnist",
    "reuters",
]
