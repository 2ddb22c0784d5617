"""Tasks: environments with a true score and named features."""
