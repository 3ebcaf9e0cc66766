"""Recurrent models, with the dropouts that draw in training, in evaluation, or not at all."""

from __future__ import annotations

import keras
from entries import entry
from keras import layers as L  # noqa: N812 (short, as it stands in many programs)

DROPOUT = (0.0, 0.3, 0.5)
# Where a rate is not lifted, each of its values compiles a program of its own.
ALIKE = (0.3, 0.3, 0.3)


def ending(*layers, data):
    return keras.Sequential([keras.Input(data.input_shape), *layers, L.Dense(data.outputs)])


@entry("sequence", batch_size=24)
def lstm(config, data):
    return ending(L.LSTM(6), data=data)


@entry("short", dropout=ALIKE)
def lstm_with_dropout(config, data):
    return ending(L.LSTM(6, dropout=config["dropout"]), data=data)


@entry("short", dropout=ALIKE)
def lstm_with_recurrent_dropout(config, data):
    return ending(L.LSTM(6, recurrent_dropout=config["dropout"]), data=data)


@entry("sequence", dropout=DROPOUT)
def lstm_beside_a_dropout(config, data):
    return ending(L.LSTM(6, return_sequences=True), L.Dropout(config["dropout"]), L.LSTM(4), data=data)


@entry("short")
def lstm_unrolled(config, data):
    return ending(L.LSTM(4, unroll=True, go_backwards=True), data=data)


@entry("sequence")
def gru(config, data):
    return ending(L.GRU(6, reset_after=False), data=data)


@entry("short", dropout=ALIKE)
def gru_with_both_dropouts(config, data):
    return ending(L.GRU(6, dropout=config["dropout"], recurrent_dropout=0.1), data=data)


@entry("sequence")
def simple_rnn(config, data):
    return ending(L.SimpleRNN(6), data=data)


@entry("short", dropout=(0.2, 0.4, 0.4), batch_size=24)
def simple_rnn_with_dropout(config, data):
    return ending(L.SimpleRNN(6, dropout=config["dropout"]), data=data)


@entry("sequence", mode=("concat", "concat", "sum"))
def bidirectional(config, data):
    return ending(L.Bidirectional(L.LSTM(4), merge_mode=config["mode"]), data=data)


@entry("short", dropout=ALIKE)
def bidirectional_with_dropout(config, data):
    return ending(L.Bidirectional(L.GRU(4, dropout=config["dropout"])), data=data)


@entry("sequence")
def stacked_cells(config, data):
    return ending(L.RNN([L.LSTMCell(4), L.GRUCell(5), L.SimpleRNNCell(3)]), data=data)


@entry("short", dropout=ALIKE)
def stacked_cells_with_dropout(config, data):
    return ending(L.RNN([L.LSTMCell(4, dropout=config["dropout"]), L.GRUCell(5)]), data=data)


@entry("film", epochs=2)
def conv_lstm(config, data):
    return ending(L.ConvLSTM2D(2, 3, padding="same"), L.Flatten(), data=data)


@entry("film", dropout=ALIKE, epochs=2)
def conv_lstm_with_dropout(config, data):
    return ending(L.ConvLSTM2D(2, 3, dropout=config["dropout"], return_sequences=True), L.Flatten(), data=data)


@entry("ragged")
def masked_lstm(config, data):
    return ending(L.Masking(0.0), L.LSTM(6), data=data)


@entry("tokens", dropout=DROPOUT)
def masked_tokens(config, data):
    return ending(L.Embedding(17, 4, mask_zero=True), L.SpatialDropout1D(config["dropout"]), L.GRU(6), data=data)


@entry("sequence", dropout=DROPOUT)
def time_distributed(config, data):
    inner = keras.Sequential([L.Dense(6, "relu"), L.Dropout(config["dropout"])])
    return ending(L.TimeDistributed(inner), L.GlobalAveragePooling1D(), data=data)


# Lanes look at a model with two rows, and this one takes 32 at a time.
@entry("short", no_lanes="LSTM|lstm")
def stateful(config, data):
    inputs = keras.Input(batch_shape=(32, *data.input_shape))
    return keras.Model(inputs, L.Dense(data.outputs)(L.LSTM(4, stateful=True)(inputs)))


@entry("sequence", epochs=2)
def sequence_to_sequence(config, data):
    inputs = keras.Input(data.input_shape)
    _, *state = L.LSTM(5, return_state=True)(inputs)
    decoded = L.LSTM(5)(inputs[:, ::-1], initial_state=state)
    return keras.Model(inputs, L.Dense(data.outputs)(decoded))
