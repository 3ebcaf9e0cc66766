"""Builders: build(config, data) -> keras.Model, one file per model. The coordinator never imports these files.

It does import `arguments`, which lists the arguments of the builders and does not import keras.
"""
