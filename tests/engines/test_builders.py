"""The built-in builders against `models.arguments`, the installed Keras, and what they built before."""

from __future__ import annotations

import pytest
from support import in_keras

from models.arguments import ACTIVATIONS, BUILDERS, widths


def what_keras_builds(cases):
    import json
    from types import SimpleNamespace

    import keras
    from keras.src import activations, initializers

    from models import arguments, cnn, mlp
    from search.engines.reads import ReadConfig

    info = {"mlp": SimpleNamespace(input_shape=(6,), outputs=3), "cnn": SimpleNamespace(input_shape=(8, 8), outputs=3)}
    modules = {"mlp": mlp, "cnn": cnn}

    def layers(name, config):
        keras.utils.clear_session(free_memory=False)
        return [
            [
                type(layer).__name__,
                getattr(layer, "units", getattr(layer, "filters", None)),
                getattr(layer, "rate", None),
            ]
            for layer in modules[name].build(config, info[name]).layers
        ]

    found = {"read": {}, "layers": {}, "refused": [], "revision": {name: m.REVISION for name, m in modules.items()}}
    for name, module in modules.items():
        config = ReadConfig({})
        module.build(config, info[name])
        found["read"][name] = sorted(config.read)
        for argument, rule in arguments.BUILDERS[name].items():
            for choice in rule.choices:
                try:
                    layers(name, {argument: choice})
                except Exception as error:
                    found["refused"].append([name, argument, choice, str(error)[:80]])
    for name, config in cases:
        found["layers"][f"{name} {json.dumps(config)}"] = layers(name, config)
    found["activations"] = sorted(activations.ALL_OBJECTS_DICT)
    found["initializers"] = sorted(initializers.ALL_OBJECTS_DICT)
    return found


CASES = [
    ["cnn", {}],
    ["cnn", {"units": 128}],
    ["cnn", {"units": [128]}],
    ["cnn", {"units": [32, 16], "dropout": 0.5}],
    ["cnn", {"filters": 4}],
    ["cnn", {"filters": [4]}],
    ["mlp", {"units": 7}],
    ["mlp", {"units": [7]}],
    ["mlp", {"units": []}],
]


@pytest.fixture(scope="module")
def keras_says():
    return in_keras(what_keras_builds, CASES, backend="tensorflow")


@pytest.mark.gallery
@pytest.mark.slow
def test_table_of_a_builder_has_the_arguments_that_it_reads(keras_says):
    assert keras_says["read"]["cnn"] == sorted(BUILDERS["cnn"])
    # An l2 is looked for, and then read.
    assert keras_says["read"]["mlp"] == sorted(BUILDERS["mlp"])


@pytest.mark.gallery
@pytest.mark.slow
def test_every_name_of_the_tables_can_be_built_with(keras_says):
    assert keras_says["refused"] == []


@pytest.mark.gallery
@pytest.mark.slow
def test_names_of_the_tables_are_those_of_keras(keras_says):
    assert sorted(ACTIVATIONS) == keras_says["activations"]
    known = set(BUILDERS["mlp"]["initializer"].choices)
    assert set(keras_says["initializers"]) - known == {
        *("Initializer", "initializer", "STFT", "STFTInitializer", "stft", "Constant", "constant"),
    }
    assert known <= set(keras_says["initializers"])


@pytest.mark.gallery
@pytest.mark.slow
def test_number_for_one_width_and_a_list_of_it_build_the_same(keras_says):
    found = keras_says["layers"]
    assert found['cnn {"units": 128}'] == found['cnn {"units": [128]}'] == found["cnn {}"]
    assert found['cnn {"filters": 4}'] == found['cnn {"filters": [4]}']
    assert found['mlp {"units": 7}'] == found['mlp {"units": [7]}']
    assert [kind for kind, _, _ in found['mlp {"units": []}']] == ["Dense"]


@pytest.mark.gallery
@pytest.mark.slow
def test_cnn_of_one_width_has_the_layers_that_it_had(keras_says):
    assert keras_says["layers"]['cnn {"units": 128}'] == [
        ["Reshape", None, None],
        *[
            row
            for filters in (32, 64)
            for row in (["Conv2D", filters, None], ["Activation", None, None], ["MaxPooling2D", None, None])
        ],
        ["Flatten", None, None],
        ["Dense", 128, None],
        ["Dropout", None, 0.0],
        ["Dense", 3, None],
    ]


@pytest.mark.gallery
@pytest.mark.slow
def test_cnn_takes_several_dense_layers_each_with_its_dropout(keras_says):
    assert keras_says["layers"]['cnn {"units": [32, 16], "dropout": 0.5}'][-5:] == [
        ["Dense", 32, None],
        ["Dropout", None, 0.5],
        ["Dense", 16, None],
        ["Dropout", None, 0.5],
        ["Dense", 3, None],
    ]


@pytest.mark.gallery
@pytest.mark.slow
def test_studies_of_before_name_the_builders_as_studies_do_now(keras_says):
    """The hashes of the files that stood in every study before builders had a revision."""
    assert keras_says["revision"] == {
        "mlp": "44ce7448cf4d24c5368ac2a4fcb0142a",
        "cnn": "0afd54a2cf7fea32ebbeea98e27b9659",
    }


def test_one_width_is_a_list_of_it():
    assert (widths(3), widths([3, 2]), widths(()), widths([])) == ([3], [3, 2], [], [])


@pytest.mark.parametrize(
    ("builder", "argument", "value"),
    [
        ("mlp", "units", "32"), ("mlp", "units", [32, "16"]), ("mlp", "units", True), ("mlp", "units", [True]),
        ("mlp", "units", 32.0), ("mlp", "units", [[32]]), ("mlp", "units", 0), ("cnn", "units", -1),
        ("cnn", "filters", None), ("cnn", "kernel_size", 2.5), ("cnn", "kernel_size", [3]), ("cnn", "kernel_size", [3, 0]),
        ("mlp", "dropout", -0.1), ("mlp", "dropout", 1.01), ("mlp", "dropout", "0.1"), ("mlp", "dropout", True),
        ("mlp", "dropout", float("nan")), ("mlp", "l1", -1e-9), ("mlp", "l2", float("inf")), ("mlp", "l2", False),
        ("mlp", "batch_norm", 1), ("mlp", "batch_norm", "true"), ("mlp", "activation", "Relu"), ("mlp", "activation", 3),
        ("mlp", "activation", {"name": "relu"}), ("cnn", "initializer", "identity"), ("mlp", "initializer", "stft"),
        ("mlp", "initializer", ["he_normal"]),
    ],
)  # fmt: skip
def test_what_a_builder_can_not_take_is_refused(builder, argument, value):
    with pytest.raises(ValueError, match=rf"^{argument} must be .*; received "):
        BUILDERS[builder][argument].check(argument, value)


@pytest.mark.parametrize(
    ("builder", "argument", "value"),
    [
        ("mlp", "units", 32), ("mlp", "units", [32]), ("mlp", "units", []), ("cnn", "units", [32, 16]), ("cnn", "filters", 8),
        ("cnn", "kernel_size", 3), ("cnn", "kernel_size", [3, 5]), ("mlp", "dropout", 0), ("mlp", "dropout", 1.0),
        ("mlp", "l1", 0), ("mlp", "activation", "gelu"), ("mlp", "initializer", "HeNormal"), ("mlp", "batch_norm", False),
        ("mlp", "initializer", {"class_name": "VarianceScaling", "config": {"scale": 2.0}}),
    ],
)  # fmt: skip
def test_what_a_builder_takes_is_taken(builder, argument, value):
    BUILDERS[builder][argument].check(argument, value)
