"""The sub-commands of ``seawall``, a module each: arguments in, answers and exit codes out."""
