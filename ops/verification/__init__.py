"""Whether what stands is what was written and decided: verify and replay."""
