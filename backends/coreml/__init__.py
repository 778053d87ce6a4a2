"""Apple devices by Core ML: mlprograms written by coremltools, and an evaluator that runs them anywhere."""
