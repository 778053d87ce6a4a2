"""The demo: train on handwritten digits, compile, run the artifact, and print one table."""
