"""The PyQt6 desktop app, a client of the engine in `pkontext`."""
