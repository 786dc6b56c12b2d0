"""Reference model of Seawall's exposure arithmetic: exact fractions, by the contract, sharing no code with Seawall.

Read in this order: `numbers` (text to fractions, rounding, Black), `terms` (reference records, switches), `book`
(events to what is held), `ladders` and `prices`, `accounts` (equity, ratios,
delta), `credit` (replacement cost, margin calls, SA-CCR). Everything is a pure function of (events, as_of): nothing
is kept between two calls.
"""
