"""What people touch: the command, its data, the dumps, the report and the demo."""
