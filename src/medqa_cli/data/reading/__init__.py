"""From files, folders, archives and hub data sets to rows. ``sources`` is the door; the others serve it."""
