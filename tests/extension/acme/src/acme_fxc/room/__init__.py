"""Acme's simulator as a backend room."""
