"""The vector path: everything between the engine's rows and the next token, as pipelined units or as one serial unit."""
