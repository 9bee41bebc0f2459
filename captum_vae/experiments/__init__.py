"""The published experiments, and the demo that shows the method on real digits."""
