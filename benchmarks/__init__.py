"""One file for every claim; each prints a table and keeps JSON under results/."""
