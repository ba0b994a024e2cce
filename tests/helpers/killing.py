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
