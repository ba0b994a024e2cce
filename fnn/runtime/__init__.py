"""What the process runs on: devices, files, threads, seeds, caches of programs, warnings."""
