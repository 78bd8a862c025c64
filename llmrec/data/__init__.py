"""Events and items from raw tables to a data directory: cleaned, split by time, and read back one row per user.

`preparation.prepare` writes a data directory, `directory.PreparedData` reads it. Neither torch nor transformers is
imported anywhere in here.
"""
