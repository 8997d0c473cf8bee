"""What is measured rather than tested: how little a switch is felt."""
