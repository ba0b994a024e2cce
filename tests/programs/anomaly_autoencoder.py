"""An autoencoder of time series: what it reconstructs badly is an anomaly."""

import keras
import numpy as np
from keras import layers

STEPS = 16


def windows(values, steps=STEPS):
    return np.stack([values[i : i + steps] for i in range(len(values) - steps + 1)])


t = np.arange(60)
usual = np.sin(t / 4).astype("float32")
unusual = usual.copy()
unusual[30:34] = 3.0
x_train = windows(usual)[..., None]
x_test = windows(unusual)[..., None]

model = keras.Sequential(
    [
        layers.Input(shape=(x_train.shape[1], x_train.shape[2])),
        layers.Conv1D(4, 7, padding="same", strides=2, activation="relu"),
        layers.Dropout(rate=0.0),
        layers.Conv1D(2, 7, padding="same", strides=2, activation="relu"),
        layers.Conv1DTranspose(2, 7, padding="same", strides=2, activation="relu"),
        layers.Conv1DTranspose(4, 7, padding="same", strides=2, activation="relu"),
        layers.Conv1DTranspose(filters=1, kernel_size=7, padding="same"),
    ]
)
model.compile(optimizer=keras.optimizers.SGD(learning_rate=0.2, momentum=0.9), loss="mse")


def run():
    history = model.fit(
        x_train,
        x_train,
        epochs=3,
        batch_size=15,
        shuffle=False,
        validation_split=0.2,
        callbacks=[
            keras.callbacks.EarlyStopping(
                monitor="val_loss", patience=1, mode="min", restore_best_weights=True
            )
        ],
        verbose=0,
    )
    train_error = np.mean(np.abs(model.predict(x_train, 15, verbose=0) - x_train), axis=1)
    test_error = np.mean(np.abs(model.predict(x_test, 15, verbose=0) - x_test), axis=1)
    return {
        "history": history.history,
        "threshold": float(np.max(train_error)),
        "anomalies": np.flatnonzero(test_error[:, 0] > np.max(train_error)),
    }
