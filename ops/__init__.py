"""Operations: command line, runs, copies of runs, reports, lab, verification, console, demo and deployment."""
