"""Reserved for the confined workers of full-Python rewards; it holds nothing yet."""
