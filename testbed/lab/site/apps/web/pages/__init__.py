"""The one app of the sample site: pages, notes, health."""
