"""The operators of MIL in PyTorch, one function each, and the plan that runs a program of them."""
