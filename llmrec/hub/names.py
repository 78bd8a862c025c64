"""The files of a saved folder that more than one module names."""

from __future__ import annotations

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ITEMS = "items.parquet"
ITEM_TABLES = "item_tables.safetensors"
MEMORY = "memory.safetensors"
PROBE = "probe.json"
