"""Several tokens a pass over the tape (decision 0006)."""
