"""Lets `invoke` find what `fab` finds."""

from fabfile import namespace

__all__ = ["namespace"]
