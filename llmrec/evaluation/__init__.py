"""Full-catalogue evaluation: cases, ranks, metrics with intervals, and the report that shows them."""
