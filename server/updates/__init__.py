"""Updates of sites: read, screened, stored, aggregated."""
