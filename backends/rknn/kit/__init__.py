"""What a bundle for a Rockchip NPU carries for other machines; nothing here is imported by fxc."""
