"""medqa's GPU code on fake CUDA tensors, in a PyTorch without CUDA: to be run in a process of its own.

``python -m helpers.pretend_cuda LIBRARY CASES`` with the library made of guard.cpp. Nothing here may be imported before
that library is loaded, and that library changes the process for good.
"""
