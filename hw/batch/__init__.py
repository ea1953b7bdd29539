"""Several tokens a pass over the tape (decision 0006): a slot for each, behind one sequencer."""
