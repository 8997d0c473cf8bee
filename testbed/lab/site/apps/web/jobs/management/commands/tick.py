"""What the timer does."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand

from jobs.models import work


class Command(BaseCommand):
    """Leaves the row of a job named `tick`."""

    help = "Do a job named tick"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take how long it is to last."""
        parser.add_argument("--seconds", type=float, default=0.0)

    def handle(self, *_args: object, **options: float) -> None:
        """Do it."""
        work("tick", options["seconds"])
