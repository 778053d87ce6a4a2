"""x86 CPUs by OpenVINO."""
