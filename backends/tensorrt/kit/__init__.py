"""What a bundle carries for the device: scripts that need nothing but TensorRT and NumPy. They import nothing of fxc."""
