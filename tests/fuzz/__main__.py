"""`python -m tests.fuzz EXPORT`: damaged and hostile files against everything that reads them (see `bundle`)."""

from tests.fuzz.bundle import main

main()
