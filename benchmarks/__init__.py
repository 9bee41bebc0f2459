"""Benchmarks: speed of the attention maps, of the data readers and of the dSprites renderer."""
