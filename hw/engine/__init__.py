"""The ternary-accumulate core: weights stream past tables of sums of activations, and rows come out."""
