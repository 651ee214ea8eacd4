"""Where the project is and where its data are: known before any setting is read."""

import os
from pathlib import Path

from dotenv import load_dotenv

BASE_DIR = Path(__file__).resolve().parent.parent

# What the process was given wins; then the operator's file; then what `make run` generated.
load_dotenv(BASE_DIR / ".env")
VAR_DIR = (BASE_DIR / (os.environ.get("VAR_DIR") or "var")).resolve()
load_dotenv(VAR_DIR / "local.env")
# Where the web server of `make run` answers while it runs: commands in another terminal do not know its PORT.
WEB_ADDRESS = VAR_DIR / "web_address"
