"""What feeds training: PyTorch."""

from lakefeed._lazy import lazy_attributes

__getattr__ = lazy_attributes(__name__)
