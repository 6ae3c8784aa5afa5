"""Bytes of images: files, archives, LMDB."""
