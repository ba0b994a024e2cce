"""Inference in each library, as a user of that library would write it; networks are in `peers`.

A module here has `network(workload)`, which makes a network with weights, and a table `VERBS`: a
verb -> a function of the network, examples x, targets y and a batch size that returns `call`, a
function that does this work once, completely, and returns its result. The results of all peers
have the same shape: probabilities, or the loss and the accuracy for `evaluate`.

- `predict`: NumPy in, NumPy out, batch by batch.
- `predict_on_batch`: the same for one batch.
- `evaluate`: loss and accuracy over all examples.
- `call`: the network called on a NumPy batch; outputs may stay on the device.
- `apply`: the pure function of weights and a batch on the device, under the user's own `jit`.
"""
