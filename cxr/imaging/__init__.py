"""From an image file to the network's input: decoding, resizing, cropping, normalisation. Imports no PyTorch."""
