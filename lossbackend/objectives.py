"""The Keras 1 name of ``lossbackend.losses``.

One difference: Keras 1 divided cosine_proximity by the size of the last axis; this is −cos, as in Keras 2 and 3.
"""

from lossbackend.losses import *  # noqa: F403
from lossbackend.losses import __all__ as __all__
