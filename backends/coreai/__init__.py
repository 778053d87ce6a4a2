"""Apple devices by Core AI, Core ML's successor."""
