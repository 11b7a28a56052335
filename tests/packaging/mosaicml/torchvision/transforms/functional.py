"""Stands for `torchvision.transforms.functional`."""

to_tensor = None
