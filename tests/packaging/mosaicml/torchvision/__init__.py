"""Stands for torchvision, whose wheel does not fit the CPU build of torch. No test uses it."""
