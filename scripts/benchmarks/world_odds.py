"""What can be known of a world's next item: with its times, or from the order of items alone; and events drawn from it.

Both forecasts are exact: a filter carries how likely each taste and moment is, given what was seen. With the times the
moments are seen and only the taste is to be inferred; without them the moments are summed over.
"""

from __future__ import annotations

import sys

import numpy as np
import polars as pl
from worlds import WORLDS, World

from llmrec.commands.main import report_errors
from llmrec.data.directory import staged_directory
from llmrec.data.preparation import SplitSettings, prepare
from llmrec.data.schema import RawTables

NUM_USERS = 1_200


def forecasts(world: World, items: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
    """Forecast every event of a history from those before it.

    Ranked by such a forecast, NDCG is the highest that can be expected from what the forecast knows.

    Args:
        world: Where the history comes from.
        items: (L,) items in order; the last one may be any, for no forecast here depends on it.
        times: (L,) seconds of each event, the one that is forecast included: its time is known, not its item. None
            forecasts from the order of items alone.

    Returns:
        (L, N) probabilities; row t knows the items before t, and with times the times up to t.
    """
    moments = None if times is None else world.moment_of(times)
    num_tastes, num_moments = world.wants.shape[1:3]
    belief = np.full((num_tastes, num_moments), 1 / (num_tastes * num_moments))
    rows, before = [], None
    for place, item in enumerate(items):
        belief = belief @ world.moments[place]
        if moments is not None:
            belief = belief * (np.arange(num_moments) == moments[place])
            belief /= belief.sum()
        odds = world.odds(before)
        rows.append(np.einsum("zk,zkn->n", belief, odds))
        belief = belief * odds[:, :, item]
        belief /= belief.sum()
        before = int(item)
    return np.stack(rows)


def draw(world: World, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one person's history: items (L,) and times (L,) in seconds, ascending."""
    num_tastes, num_moments, num_items = world.wants.shape[1:]
    taste = random.integers(num_tastes)
    items: list[int] = []
    times: list[int] = []
    moment = 0
    for place in range(len(world.moments)):
        moment = int(random.choice(num_moments, p=world.moments[place, moment]))
        odds = world.odds(items[-1] if items else None)[taste, moment]
        times.append(world.time_of(moment, times[-1] if times else None, random))
        items.append(int(random.choice(num_items, p=odds)))
    return np.array(items), np.array(times)


def make_world(name: str, seed: int = 0) -> World:
    """Return a world by name.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in WORLDS:
        raise ValueError(f"world {name!r} is not one of {', '.join(WORLDS)}")
    return WORLDS[name](seed)


def world_tables(name: str, seed: int = 0, num_users: int = NUM_USERS) -> RawTables:
    """Draw a world's events; equal seeds give equal tables, and item ids ascend with the item's index.

    Raises:
        ValueError: There is no such world.
    """
    world = make_world(name, seed)
    random = np.random.default_rng([seed, 2])
    histories = [draw(world, random) for _ in range(num_users)]
    users = np.repeat([f"{user:05}" for user in range(num_users)], len(world.moments))
    ids = [f"{item:02}" for item in range(len(world.titles))]
    return RawTables(
        interactions=pl.DataFrame(
            {
                "user_id": users,
                "item_id": [ids[item] for items, _ in histories for item in items],
                "timestamp": np.concatenate([times for _, times in histories]),
            }
        ),
        items=pl.DataFrame({"item_id": ids, "title": world.titles}),
        source=f"world:{name}:{seed}",
        licence="made up by llmrec; no terms",
        citation="none: events drawn from the distribution in llmrec.data.worlds",
        inputs={},
        notes=[f"synthetic: {(WORLDS[name].__doc__ or '').splitlines()[0]}", "times are UTC"],
    )


def main(world: str, folder: str, seed: str = "0") -> None:
    """Prepare a world as a data directory, split by users."""
    if world not in WORLDS:
        raise ValueError(f"world {world!r} is not one of {', '.join(WORLDS)}.")
    with staged_directory(folder) as staging:
        prepare(world_tables(world, int(seed)), staging, SplitSettings(kind="users"))


if __name__ == "__main__":
    sys.exit(report_errors("world", lambda: main(*sys.argv[1:4])))
