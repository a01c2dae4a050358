"""``medqa doctor``: tries on this machine what training, merging and asking rest on, by their own code."""
