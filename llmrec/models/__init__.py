"""What reads and scores: the backbone with its masks, item tables and heads, joined in `RecModel`."""
