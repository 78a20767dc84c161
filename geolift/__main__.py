"""`python -m geolift`."""

from geolift.cli import main

if __name__ == "__main__":
    main()
