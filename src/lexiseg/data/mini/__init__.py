"""Makes the miniature data sets: small photographs, masks and concepts."""
