"""Models of memories and controllers that the backends of `tritape.hw.memory` are simulated with."""
