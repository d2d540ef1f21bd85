"""What the site's owner agrees to, and what holds the server to it."""
