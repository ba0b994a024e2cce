"""A table of numbers: benign or malignant, from 30 measurements of each tumour."""

import fnn
from fnn.layers import Dense, Dropout


def main(verbose="auto"):
    (x_train, y_train), (x_test, y_test) = fnn.datasets.breast_cancer()
    mean, deviation = (
        x_train.mean(axis=0),
        x_train.std(axis=0),
    )  # of the training set alone
    x_train, x_test = (x_train - mean) / deviation, (x_test - mean) / deviation

    model = fnn.Sequential(
        [Dense(16, "relu"), Dropout(0.2), Dense(1, "sigmoid")], seed=0
    )
    model.compile("adam", loss="binary_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, epochs=30, validation_split=0.1, verbose=verbose)

    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"test loss {loss:.3f}, test accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
