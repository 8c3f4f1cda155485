"""`python -m dao`, which is the console script `dao`."""

from dao.command import main

if __name__ == "__main__":
    main()
