"""Version: that of fnn."""

VERSION = "0.1.0"
