"""Helpers around losses."""

from lossbackend.utils import np_utils
from lossbackend.utils.np_utils import to_categorical

__all__ = ["np_utils", "to_categorical"]
