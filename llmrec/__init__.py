"""Turn a pretrained language model into a sequential recommender.

One direction, from an events table to ranked items; a package imports only itself and those to its left:

    configuration, checkpoints → data → text → losses → models → ranking → baselines → evaluation → hub
    → recommender → training → commands

Shape letters, the same everywhere:

    B users in a batch      L events in a history    T tokens             D hidden width
    C candidates            N catalogue items        K cutoff of a ranking

What people import, each name loaded when it is first asked for:

    from llmrec import Recommender
    recommender = Recommender.from_pretrained("runs/movies")
    recommender.recommend([{"title": "Heat", "timestamp": 1260759144}], k=10)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmrec import baselines as baselines
    from llmrec.baselines.baseline import Baseline as Baseline
    from llmrec.commands.fit import fit as fit
    from llmrec.configuration import RecommenderConfig as RecommenderConfig
    from llmrec.data.cases import Cases as Cases
    from llmrec.data.catalog import Catalog as Catalog
    from llmrec.data.directory import PreparedData as PreparedData
    from llmrec.data.interactions import Interactions as Interactions
    from llmrec.data.labelled_cases import LabelledCases as LabelledCases
    from llmrec.evaluation import metrics as metrics
    from llmrec.evaluation.evaluate import EvaluationResults as EvaluationResults
    from llmrec.evaluation.evaluate import evaluate as evaluate
    from llmrec.ranking.recommendation import Recommendation as Recommendation
    from llmrec.recommender import Recommender as Recommender
    from llmrec.text.template import PromptTemplate as PromptTemplate
    from llmrec.training.arguments import RecTrainingArguments as RecTrainingArguments
    from llmrec.training.pairs import PairTrainer as PairTrainer
    from llmrec.training.trainer import RecTrainer as RecTrainer

__version__ = "0.1.0"

_PLACES = {
    "Recommender": "recommender",
    "RecommenderConfig": "configuration",
    "Recommendation": "ranking.recommendation",
    "Interactions": "data.interactions",
    "PreparedData": "data.directory",
    "Catalog": "data.catalog",
    "Cases": "data.cases",
    "LabelledCases": "data.labelled_cases",
    "baselines": "baselines",
    "Baseline": "baselines.baseline",
    "fit": "commands.fit",
    "evaluate": "evaluation.evaluate",
    "EvaluationResults": "evaluation.evaluate",
    "metrics": "evaluation.metrics",
    "RecTrainer": "training.trainer",
    "RecTrainingArguments": "training.arguments",
    "PairTrainer": "training.pairs",
    "heads": "models.candidate_heads",
    "losses": "losses",
    "PromptTemplate": "text.template",
}
"""Where each name is defined; a name that its module does not define is the module itself."""

__all__ = [*_PLACES, "__version__"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and torch with it where that needs torch."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = _PLACES[name]
    module = importlib.import_module(f"llmrec.{place}")
    value = getattr(module, name, module)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
