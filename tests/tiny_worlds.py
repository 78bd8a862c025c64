"""A world small enough to sum over all that can happen in it."""

from __future__ import annotations

import numpy as np
from worlds import World


def tiny_world(seed: int) -> World:
    """Two tastes, three moments that depend on each other and on the place, four items that depend on the one before.

    A time is its moment.
    """
    random = np.random.default_rng(seed)
    return World(
        name="tiny",
        titles=list("abcd"),
        first=random.dirichlet(np.ones(4), size=(2, 3)),
        wants=random.dirichlet(np.ones(4), size=(4, 2, 3)),
        moments=np.concatenate([np.tile(random.dirichlet(np.ones(3)), (1, 3, 1)), random.dirichlet([1] * 3, (3, 3))]),
        moment_of=lambda times: times,
        time_of=lambda moment, before, random: moment,
    )


def joint(world: World, taste: int, moments: tuple[int, ...], items: tuple[int, ...]) -> float:
    """The probability that a person has the taste and all of it happens, multiplied out."""
    chance, before = 1 / 2, None
    for place, (moment, item) in enumerate(zip(moments, items, strict=True)):
        chance *= world.moments[place, moments[place - 1] if place else 0, moment]
        chance *= (world.first if before is None else world.wants[before])[taste, moment, item]
        before = item
    return chance
