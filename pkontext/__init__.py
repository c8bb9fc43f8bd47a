"""PianoKontext: expressive piano performance from plain notes, offline and near-streaming.

The runtime package: no torch and no Qt is imported here, and importing any module
opens no device and writes no file.
"""

__version__ = "0.1.0"
