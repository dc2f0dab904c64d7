"""Several methods over several seeds, and what their differences are worth."""
