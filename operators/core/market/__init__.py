"""The market's core: venue events in, a signal per instrument group and interval out (decision 0022)."""
