import os

os.environ.setdefault("DJANGO_SECRET_KEY", "dev")
from .base import *  # noqa: E402, F403

DEBUG = True
