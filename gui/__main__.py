"""``python -m gui [file]``."""

from gui.app import main

if __name__ == "__main__":
    raise SystemExit(main())
