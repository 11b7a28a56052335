"""Stands for `torchvision.transforms`."""
