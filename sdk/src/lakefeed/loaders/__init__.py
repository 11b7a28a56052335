"""What feeds training: PyTorch."""
