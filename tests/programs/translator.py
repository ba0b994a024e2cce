"""A translator from sequence to sequence: training with the true texts, then step by step."""

import keras
import numpy as np
from keras import layers

SOURCE, TARGET, UNITS = 7, 6, 5

encoder_inputs = keras.Input(shape=(None, SOURCE))
encoder = layers.LSTM(UNITS, return_state=True)
_, state_h, state_c = encoder(encoder_inputs)
encoder_states = [state_h, state_c]

decoder_inputs = keras.Input(shape=(None, TARGET))
decoder_lstm = layers.LSTM(UNITS, return_sequences=True, return_state=True)
decoder_outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=encoder_states)
decoder_dense = layers.Dense(TARGET, activation="softmax")
decoder_outputs = decoder_dense(decoder_outputs)
model = keras.Model([encoder_inputs, decoder_inputs], decoder_outputs)
model.compile(
    optimizer=keras.optimizers.RMSprop(0.01),
    loss="categorical_crossentropy",
    metrics=["accuracy"],
)

rng = np.random.default_rng(0)
source = np.eye(SOURCE, dtype="float32")[rng.integers(0, SOURCE, size=(6, 4))]
target_ids = rng.integers(1, TARGET, size=(6, 5))
target_ids[:, 0] = 0
target_in = np.eye(TARGET, dtype="float32")[target_ids]
target_out = np.eye(TARGET, dtype="float32")[np.roll(target_ids, -1, axis=1)]


def translator(model):
    encoder_inputs = model.input[0]
    _, h, c = model.layers[2].output
    encoder_model = keras.Model(encoder_inputs, [h, c])
    given = keras.Input(shape=(UNITS,)), keras.Input(shape=(UNITS,))
    outputs, h, c = decoder_lstm(decoder_inputs, initial_state=list(given))
    outputs = decoder_dense(outputs)
    decoder_model = keras.Model([decoder_inputs, *given], [outputs, h, c])
    return encoder_model, decoder_model


def decode(encoder_model, decoder_model, sequence, longest=4):
    states = encoder_model.predict(sequence, verbose=0)
    token = np.zeros((1, 1, TARGET), "float32")
    token[0, 0, 0] = 1.0
    text = []
    for _ in range(longest):
        scores, h, c = decoder_model.predict([token, *states], verbose=0)
        index = int(np.argmax(scores[0, -1]))
        text.append(index)
        token = np.eye(TARGET, dtype="float32")[None, None, index]
        states = [h, c]
    return text, scores


def run():
    history = model.fit(
        [source, target_in],
        target_out,
        batch_size=3,
        epochs=2,
        shuffle=False,
        verbose=0,
    )
    encoder_model, decoder_model = translator(model)
    text, scores = decode(encoder_model, decoder_model, source[:1])
    return {"history": history.history, "text": text, "last_scores": scores}
