"""What runs: the dataflows that wire operators and connectors."""
