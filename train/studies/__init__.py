"""The paper's studies at the scale of one GPU; each module has `recipes()`, and `summarise(results)` for its page."""
