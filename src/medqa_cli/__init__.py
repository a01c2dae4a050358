"""medqa: from a spreadsheet of medical questions and answers to a tuned language model, with honest figures."""

__version__ = "0.2.0"
