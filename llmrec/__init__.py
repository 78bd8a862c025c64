"""Turn a pretrained language model into a sequential recommender.

One direction, from an events table to ranked items; a package imports only itself and those to its left:

    configuration, checkpoints → data → text → losses → models → ranking → baselines → evaluation → hub
    → recommender → training → commands

Shape letters, the same everywhere:

    B users in a batch      L events in a history    T tokens             D hidden width
    C candidates            N catalogue items        K cutoff of a ranking

The face of the package is `Recommender`:

    from llmrec import Recommender
    recommender = Recommender.from_pretrained("runs/movies")
    recommender.recommend([{"title": "Heat", "timestamp": 1260759144}], k=10)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmrec.recommender import Recommender

__version__ = "0.1.0"
__all__ = ["Recommender", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `Recommender`, and torch with it, only when somebody asks for it."""
    if name == "Recommender":
        from llmrec.recommender import Recommender

        return Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
