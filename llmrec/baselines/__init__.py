"""What a recommender has to beat, by one contract: `fit`, `load`, and `Baseline` for one of your own."""

from llmrec.baselines.baseline import Baseline, Baselines, fit, load

__all__ = ["Baseline", "Baselines", "fit", "load"]
