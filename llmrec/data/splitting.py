"""Which events train, choose and judge a model: one cut in time, each user's last two events, or whole users."""

from __future__ import annotations

import numpy as np
import polars as pl

from llmrec.data.ordering import mix, text_hashes
from llmrec.data.times import clock_of

KINDS = ("temporal", "leave_one_out", "users")
USERS_MEANING = (
    "all events of a user have one split: what is learned of items comes from training users only, held-out users are "
    "new to it, and there is no cut in time, so training events may be later than test events of others"
)


def check_fractions(validation_fraction: float, test_fraction: float) -> None:
    """Raise unless both fractions are shares that leave something to train on.

    Raises:
        ValueError: They are not.
    """
    for name, fraction in (("validation_fraction", validation_fraction), ("test_fraction", test_fraction)):
        if not 0 < fraction < 1:
            raise ValueError(f"{name} {fraction!r} is not between 0 and 1; give for example 0.1")
    if validation_fraction + test_fraction >= 1:
        raise ValueError(
            f"validation_fraction {validation_fraction!r} and test_fraction {test_fraction!r} leave no training"
        )


def temporal_cuts(timestamps: pl.Series, validation_fraction: float, test_fraction: float) -> tuple[int, int]:
    """Choose the two moments that part training, validation and test.

    The test cut is the time of the event with which the last `test_fraction` of the events begins, the validation cut
    likewise with both fractions; events of one time stay together on the later side.

    Args:
        timestamps: Seconds, in any order.
        validation_fraction: Share of all events between the cuts, in (0, 1).
        test_fraction: Share of all events from the second cut on, in (0, 1).

    Returns:
        `(validation_from, test_from)` in seconds: training is before the first, test from the second on.

    Raises:
        ValueError: A fraction is out of range, the times are ordinals, or a part would be empty.

    >>> temporal_cuts(pl.Series(range(1_000_000_000, 1_000_000_010)), 0.2, 0.1)
    (1000000007, 1000000009)
    """
    check_fractions(validation_fraction, test_fraction)
    if clock_of(timestamps) == "ordinal":
        raise ValueError(
            f"timestamps up to {timestamps.max()!r} count events and tell no time, so one cut cannot part them;\n"
            "use --split leave_one_out, or give seconds since 1970"
        )
    ordered = timestamps.sort()
    num_test = max(1, round(len(ordered) * test_fraction))
    num_held_out = max(num_test + 1, round(len(ordered) * (validation_fraction + test_fraction)))
    if num_held_out >= len(ordered):
        raise ValueError(f"{len(ordered)} events are too few for training, validation and test; give more")
    validation_from, test_from = ordered[-num_held_out], ordered[-num_test]
    if not ordered[0] < validation_from < test_from:
        raise ValueError(
            f"cuts at {validation_from} and {test_from} leave a part empty, for too many events share one time;\n"
            "change --validation_fraction and --test_fraction, or use --split leave_one_out"
        )
    return validation_from, test_from


def temporal_split(timestamps: pl.Series, validation_from: int, test_from: int) -> pl.Series:
    """Label each event by the side of the cuts it stands on.

    >>> temporal_split(pl.Series([5, 7, 9, 6]), 6, 9).to_list()
    ['train', 'validation', 'test', 'validation']
    """
    train = pl.when(timestamps < validation_from).then(pl.lit("train"))
    held_out = train.when(timestamps < test_from).then(pl.lit("validation")).otherwise(pl.lit("test"))
    return pl.select(split=held_out).to_series()


def leave_one_out_split(user_ids: pl.Series) -> pl.Series:
    """Label each user's last event test and the one before validation; users with fewer than 3 events only train.

    Does not prevent leakage between users: one user's training events may be later than another's test event.

    Args:
        user_ids: Each event's user, in the order of events within users.

    >>> leave_one_out_split(pl.Series(["a", "a", "a", "b", "b"])).to_list()
    ['train', 'validation', 'test', 'train', 'train']
    """
    size = pl.len().over("user_id")
    from_end = size - pl.int_range(pl.len()).over("user_id")
    short_or_last = pl.when(size < 3).then(pl.lit("train")).when(from_end == 1).then(pl.lit("test"))
    label = short_or_last.when(from_end == 2).then(pl.lit("validation")).otherwise(pl.lit("train"))
    return user_ids.to_frame("user_id").select(split=label).to_series()


def users_split(user_ids: pl.Series, validation_fraction: float, test_fraction: float, seed: int = 0) -> pl.Series:
    """Give all events of a user one split, drawn by a salted hash of the id.

    Users stand in the order of the hash; the first `test_fraction` of them, at least one, are test, the next are
    validation. Neither the order of the rows nor what a user did decides. Does not part events in time.

    Args:
        user_ids: Each event's user, in any order.
        validation_fraction: Share of the users, in (0, 1).
        test_fraction: Share of the users, in (0, 1).
        seed: Another seed draws other users.

    Raises:
        ValueError: A fraction is out of range, or there are too few users.

    >>> users_split(pl.Series(["a", "b", "a", "c", "d"]), 0.25, 0.25).to_list()
    ['train', 'validation', 'train', 'test', 'train']
    """
    check_fractions(validation_fraction, test_fraction)
    users = user_ids.unique().sort()
    num_test, num_validation = (max(1, round(len(users) * share)) for share in (test_fraction, validation_fraction))
    if num_test + num_validation >= len(users):
        raise ValueError(f"{len(users)} users are too few for training, validation and test; give more")
    keys = mix(text_hashes(users) ^ mix(np.array([seed], dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)))
    split = np.full(len(users), "train", dtype="<U10")
    order = np.argsort(keys, kind="stable")
    split[order[:num_test]] = "test"
    split[order[num_test : num_test + num_validation]] = "validation"
    return user_ids.replace_strict(users, pl.Series(split), return_dtype=pl.String).alias("split")


def drop_rare(events: pl.DataFrame, min_user_events: int, min_item_events: int, kind: str) -> pl.DataFrame:
    """Drop training events of rare users and items until none is left (k-core); held-out events are never counted.

    Held-out events stay, those of dropped items too: a catalogue keeps its cold items. Only under `leave_one_out`
    a user who loses every training event loses the held-out ones as well, for they would have no history.

    Args:
        events: `user_id`, `item_id`, `split`.
        min_user_events: Fewest training events of a user; 0 or 1 drops nobody.
        min_item_events: Fewest training events of an item; 0 or 1 drops none.
        kind: `temporal`, `leave_one_out` or `users`.

    Returns:
        (rows of `events`) the columns `split`, with `dropped` for what left, and `reason`, null for what stays.

    Raises:
        ValueError: A minimum is negative, or no training event is left.

    >>> events = pl.DataFrame({"user_id": list("aab"), "item_id": list("xyx"), "split": ["train"] * 3})
    >>> drop_rare(events, 2, 0, "temporal").rows()
    [('train', None), ('train', None), ('dropped', 'k_core_user')]
    """
    for name, minimum in (("min_user_events", min_user_events), ("min_item_events", min_item_events)):
        if minimum < 0:
            raise ValueError(f"{name} {minimum!r} is negative; 0 keeps everything")
    left = events.with_row_index("row").filter(split="train").select("row", "user_id", "item_id")
    reasons = []
    while True:
        rare_user = pl.len().over("user_id") < min_user_events
        rare_item = pl.len().over("item_id") < min_item_events
        reason = pl.when(rare_user).then(pl.lit("k_core_user")).when(rare_item).then(pl.lit("k_core_item"))
        judged = left.with_columns(reason=reason)
        left = judged.filter(pl.col("reason").is_null()).drop("reason")
        reasons.append(judged.filter(pl.col("reason").is_not_null()).select("row", "reason"))
        if left.height == judged.height:
            break
    if left.is_empty():
        raise ValueError(
            f"no training event is left with min_user_events {min_user_events} and min_item_events {min_item_events};\n"
            "lower them"
        )
    result = events.with_row_index("row").join(pl.concat(reasons), on="row", how="left", maintain_order="left")
    if kind == "leave_one_out":
        trained = events.filter(split="train")["user_id"].unique()
        lost = trained.filter(~trained.is_in(left["user_id"].unique().implode()))
        orphaned = (pl.col("split") != "train") & pl.col("user_id").is_in(lost.implode())
        result = result.with_columns(reason=pl.when(orphaned).then(pl.lit("k_core_user")).otherwise("reason"))
    dropped = pl.col("reason").is_not_null()
    return result.select(split=pl.when(dropped).then(pl.lit("dropped")).otherwise("split"), reason="reason")


def split_counts(events: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Count events, users and items of each split, and how many of its users and items no training event knows.

    Args:
        events: `user_id`, `item_id`, `split`.

    >>> events = pl.DataFrame({"user_id": list("aab"), "item_id": list("xyx"), "split": ["train", "test", "test"]})
    >>> split_counts(events)["test"]
    {'events': 2, 'users': 2, 'items': 2, 'new_users': 1, 'cold_items': 1}
    """
    counts = {}
    train = events.filter(split="train")
    for name in sorted(events["split"].unique().to_list(), key=["train", "validation", "test", "dropped"].index):
        part = events.filter(split=name)
        users, items = part.select("user_id").unique(), part.select("item_id").unique()
        counts[name] = {
            "events": part.height,
            "users": users.height,
            "items": items.height,
            "new_users": users.join(train, on="user_id", how="anti").height,
            "cold_items": items.join(train, on="item_id", how="anti").height,
        }
    return counts
