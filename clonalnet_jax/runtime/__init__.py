"""Where programs run: devices, processes, signals and traces."""
