"""Design spaces: every point by the cycle model, the best ones by synthesis and routing (docs/explore.md)."""
