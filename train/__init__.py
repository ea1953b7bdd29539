"""Training and GPU inference of `hgrn_bit` models (extra `tritape[train]`); nothing else in the package imports it."""
