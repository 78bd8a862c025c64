"""From scores to ranks: where a target stands in the catalogue, and which items stand at the top."""
