"""Units that mix tokens (MLGRU) and channels, with SiLU and the memories of states and of the residual."""
