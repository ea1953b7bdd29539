"""RMSNorm with the quantiser in front of the engine, and the dequantiser behind it, with their arithmetic and gain memories."""
