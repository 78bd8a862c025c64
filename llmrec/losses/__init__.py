"""Losses as functions of tensors, with no model inside."""
