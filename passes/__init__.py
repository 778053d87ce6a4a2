"""The verbs: graph transformations that know no hardware, one per file."""
