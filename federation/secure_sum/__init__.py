"""Secure aggregation: keys, masks, signatures and sums; neither the site's part nor the server's."""
