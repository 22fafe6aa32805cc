"""The live screen: `feed` keeps what was heard (pure), `view` makes a picture of it (pure), `screen` has the terminal."""
