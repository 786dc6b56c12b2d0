"""What travels: events, slices, decisions, commands, audit records, errors and their encoding."""
