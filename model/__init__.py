"""The model in numbers: checkpoints, float reference, integers, the tape, and text; needs no hardware."""
