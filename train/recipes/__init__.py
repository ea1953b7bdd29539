"""Recipes of the default models, as TOML; `tritape.train.recipe` says what their entries mean."""
