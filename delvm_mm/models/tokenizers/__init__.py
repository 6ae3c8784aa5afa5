"""Images to tokens and back: the VQGAN, its training, and tokenizers of other projects."""
