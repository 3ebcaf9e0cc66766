"""Prints at which epochs Keras's EarlyStopping ends the curves that stdin lists."""

import json
import sys

import keras
import numpy as np

found = []
for patience, min_delta, start, mode, scores in json.load(sys.stdin):
    callback = keras.callbacks.EarlyStopping(
        monitor="x", patience=patience, min_delta=min_delta, start_from_epoch=start, mode=mode
    )
    model = keras.Sequential()
    model.stop_training = False
    callback.set_model(model)
    callback.on_train_begin()
    stop = None
    for epoch, score in enumerate(scores):
        # What model.fit hands to callbacks: a float32 as a Python float.
        callback.on_epoch_end(epoch, {"x": float(np.float32(score))})
        if model.stop_training:
            stop = epoch + 1
            break
    found.append(stop)
print(json.dumps(found))
