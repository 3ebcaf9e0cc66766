"""Builders of the bad studies that are in KerasTuner's form, or nearly: none of them is ever run."""


def build(hp):
    raise AssertionError("a bad study has run its builder")


def of_classes(hp, *, classes):
    raise AssertionError("a bad study has run its builder")


def of_two(hp, data):
    raise AssertionError("a bad study has run its builder")


hypermodel = None
