"""A training that is killed."""

from fnn import callbacks


class Kill(callbacks.Callback):
    """Ends the process, as far as the training is concerned, before or after a backup."""

    def __init__(self, epoch=None, hook="epoch_begin"):
        super().__init__()
        self.epoch, self.hook = epoch, hook

    def on_epoch_begin(self, epoch, logs=None):
        if self.hook == "epoch_begin" and epoch == self.epoch:
            raise KeyboardInterrupt

    def on_epoch_recorded(self, epoch):
        if self.hook == "epoch_recorded" and epoch == self.epoch:
            raise KeyboardInterrupt


class Killed(Exception):  # noqa: N818 - as if the process were gone
    """What KillAfter raises."""


class KillAfter(callbacks.Callback):
    """Ends a training in the middle of step `number` of this call, from 1; None: never.

    Calls `look(step)` in the middle of each step before.
    """

    def __init__(self, number=None, look=None):
        super().__init__()
        self.number, self.look, self.seen = number, look, 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.number:
            raise Killed
        if self.look is not None:
            self.look(self.seen)
