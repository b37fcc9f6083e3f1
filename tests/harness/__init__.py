"""What the tests need to start clouds, ask them things and look into their guests."""
