"""Export: trained models as programs for other processes, runtimes and libraries."""

from fnn.export.archive import ExportArchive
from fnn.export.formats import export_model
from fnn.export.loading import Endpoint, Exported, load

__all__ = ["Endpoint", "ExportArchive", "Exported", "export_model", "load"]
