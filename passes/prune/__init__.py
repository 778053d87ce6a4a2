"""Structured and unstructured pruning: what must shrink together, how much each part matters, and the smaller program."""
