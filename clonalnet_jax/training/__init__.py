"""How networks are trained: steps, methods, the loop, and the story around it."""
