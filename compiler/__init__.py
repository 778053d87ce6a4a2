"""The nouns: what a program, a pass, a rule, a target and an artifact are. Imports no other room."""
