"""Text of a running generation: pieces that add up, and what a tokenizer's files say."""
