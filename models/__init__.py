"""Builders: build(config, data) -> keras.Model, one file a model. Nothing here is imported by the coordinator."""
