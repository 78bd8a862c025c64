"""Losses as functions of tensors, with no model inside."""

from llmrec.losses.candidates import candidate_softmax
from llmrec.losses.catalogue import CatalogueLoss, catalogue_softmax
from llmrec.losses.contrastive import info_nce
from llmrec.losses.objectives import GBCE, BinaryCrossEntropy, CatalogueSoftmax, SampledSoftmax
from llmrec.losses.sampled import bce_loss, gbce_loss

__all__ = [
    "GBCE",
    "BinaryCrossEntropy",
    "CatalogueLoss",
    "CatalogueSoftmax",
    "SampledSoftmax",
    "bce_loss",
    "candidate_softmax",
    "catalogue_softmax",
    "gbce_loss",
    "info_nce",
]
