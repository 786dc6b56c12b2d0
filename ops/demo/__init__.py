"""The demo: a simulated crisis, told while it runs, then verified and tampered with."""
