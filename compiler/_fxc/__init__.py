"""fxc: a torch.fx graph compiler for edge chips."""
