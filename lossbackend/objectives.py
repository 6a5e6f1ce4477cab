"""The Keras 1 name of ``lossbackend.losses``.

One difference: Keras 1 divided cosine_proximity by the size of the last axis; this is −cos, as in Keras 2 and 3.
"""

from typing import TYPE_CHECKING, Any

from lossbackend import losses

__all__ = losses.__all__

if TYPE_CHECKING:
    from lossbackend.losses import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        if name in __all__:
            return getattr(losses, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
