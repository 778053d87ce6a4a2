"""The ``fxc`` command: one file per subcommand, none of which imports torch before it has checked its arguments."""
