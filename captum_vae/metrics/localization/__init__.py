"""How well maps localize: exact counts of scores, curves over them, intervals, Metric classes."""
