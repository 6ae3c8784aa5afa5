"""Files that are never half written, and checkpoints: reading, checking, finding the one to resume from."""
