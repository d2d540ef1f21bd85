"""The site's processes: Flower's SuperNode with one kind of task and our code alone."""
