"""Builders: build(config, data) -> keras.Model, one file a model, which the coordinator never imports.

`arguments` says what they take; it imports no keras and belongs to the coordinator, too.
"""
