"""The end of the model: logits of all lanes in order, sampler and argmax, a token out."""
