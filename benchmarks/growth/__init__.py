"""How cost grows with the size of the work, and the slope of each growth."""
