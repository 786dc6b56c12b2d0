"""The market's core: venue events in, a signal per instrument group and interval out (`ops/docs/decisions/0022-one-order-of-market-inputs.md`)."""
