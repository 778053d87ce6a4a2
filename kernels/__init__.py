"""Integer arithmetic of quantized operators: ``reference`` kernels to be right, faster ones to come beside them."""
