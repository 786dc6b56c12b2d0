"""Reports: one HTML file that a risk committee reads and prints, with everything needed to make it again."""
