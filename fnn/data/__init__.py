"""Sources of batches: windows, buckets, folders, tables and splits."""

from fnn.data.batches import Batches
from fnn.data.buckets import bucket
from fnn.data.image_folders import image_folder
from fnn.data.series import windows
from fnn.data.splits import split
from fnn.data.tables import csv

__all__ = ["Batches", "bucket", "csv", "image_folder", "split", "windows"]
