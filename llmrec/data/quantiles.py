"""The quantiles by which a distribution is told."""

from __future__ import annotations

import polars as pl

LEVELS = {"min": 0.0, "p10": 0.1, "p25": 0.25, "median": 0.5, "p75": 0.75, "p90": 0.9, "max": 1.0}


def quantiles(values: pl.Series) -> dict[str, float] | None:
    """Return quantiles (linear between values) and the mean; None of nothing.

    >>> quantiles(pl.Series([1, 2, 3, 4, 10]))
    {'min': 1.0, 'p10': 1.4, 'p25': 2.0, 'median': 3.0, 'p75': 4.0, 'p90': 7.6, 'max': 10.0, 'mean': 4.0}
    """
    if values.is_empty():
        return None
    told = {name: values.quantile(level, interpolation="linear") for name, level in LEVELS.items()}
    return {name: round(float(value), 4) for name, value in {**told, "mean": values.mean()}.items()}  # type: ignore[arg-type]
