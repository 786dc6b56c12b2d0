"""What a run measures of itself and of what it wrote, in the text format of Prometheus."""
