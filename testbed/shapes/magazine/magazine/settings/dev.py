from .base import *  # noqa: F403

DEBUG = True
SECRET_KEY = "only for development"
ALLOWED_HOSTS = ["*"]
