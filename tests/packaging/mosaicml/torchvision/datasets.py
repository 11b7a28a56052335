"""Stands for `torchvision.datasets`."""


class VisionDataset:
    """Stands for the base class."""
