"""What is wrong with a dataset."""
