"""The process that fnn runs in: devices, files, memory, threads, seeds, caches, warnings."""
