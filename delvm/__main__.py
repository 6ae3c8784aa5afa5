"""``python -m delvm``, the same as ``delvm``."""

from delvm.cli import main

if __name__ == "__main__":
    main()
