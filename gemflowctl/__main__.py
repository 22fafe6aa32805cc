"""`python -m gemflowctl`."""

from gemflowctl.main import main

if __name__ == "__main__":
    main()
