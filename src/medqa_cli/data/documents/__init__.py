"""Documents that answers may be drawn from: files and folders become passages beside the training rows."""
