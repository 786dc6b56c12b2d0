"""How it is run and watched: command line, verification, demo, deployment."""
