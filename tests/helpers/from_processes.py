"""A dataset for worker processes, which import this module: it must not take long."""

import os

from fnn.utils import PyDataset


class FromProcesses(PyDataset):
    """Batches of 2; each leaves a file that tells which process made it."""

    def __init__(self, folder, x, y, **kwargs):
        super().__init__(**kwargs)
        self.folder, self.x, self.y = folder, x, y

    def __len__(self):
        return 5

    def __getitem__(self, index):
        (self.folder / f"{index} {os.getpid()}").touch()
        rows = slice(2 * index, 2 * index + 2)
        return self.x[rows], self.y[rows]
