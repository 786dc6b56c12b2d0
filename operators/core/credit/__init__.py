"""Credit: netting sets with their terms, SA-CCR on the book, wrong-way risk, obligations and working orders."""
